//! A sentence for people, in both languages of the product.

use serde::Serialize;

/// A sentence for people, in both languages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Sentence {
    /// Brazilian Portuguese.
    #[serde(rename = "ptBR")]
    pub pt_br: String,
    /// English.
    pub en: String,
}

impl Sentence {
    /// Both at once.
    pub fn new(pt_br: impl Into<String>, en: impl Into<String>) -> Self {
        Self { pt_br: pt_br.into(), en: en.into() }
    }
}
