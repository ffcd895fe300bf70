//! A hospital whose patients were all read and whose means are all proven: what is measured is how it goes on, not how it begins.

use crate::platform::{Api, Patient, Ward, config, store};
use crate::process::Node;
use crate::site::Site;
use std::path::Path;
use std::time::Duration;
use store::Store;
use tempfile::TempDir;

/// One tenant of its own, and no node running.
pub struct Warm {
    pub folder: TempDir,
    pub store: Store,
    pub ward: Ward,
    pub patients: Vec<Patient>,
    pub client: reqwest::Client,
}

impl Warm {
    /// With these Patients of the site; `log`: what its node logs.
    pub async fn up(site: &Site, theirs: &[String], log: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("ponte-bench-").tempdir().unwrap();
        let store = store(folder.path()).await;
        let ward = Ward::open(&store, "hospital", &config(&site.base)).await;
        let patients = ward.patients(theirs).await;
        let client = reqwest::Client::new();
        warm(folder.path(), &ward, &patients, &client, log).await;
        Self { folder, store, ward, patients, client }
    }
}

/// One observation of each patient goes there, by a node that ends with the last.
pub async fn warm(folder: &Path, ward: &Ward, patients: &[Patient], client: &reqwest::Client, log: &str) {
    ward.accept(patients, patients.len()).await;
    let node = Node::start(folder, &[("PONTE_LOG", log)], &[]).await;
    let api = Api::of(client, &node.url, &ward.id);
    while api.standing().await.0 > 0 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    node.stop();
}
