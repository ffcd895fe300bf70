//! What a write probe of a connection tried and saw, kept with the plan: words and numbers, no patient data.

use crate::clock::Timestamp;
use crate::failure::words;
use crate::sentence::Sentence;
use serde::{Deserialize, Deserializer, Serialize};

words!(
    /// One thing that a probe tries.
    What {
        /// `PUT` of an id of ours creates, and is read back (means 2).
        OwnId = "own_id",
        /// `If-None-Match: *` on it: a second `PUT` is refused and changes nothing (means 2a).
        IfNoneMatch = "if_none_match",
        /// The same in a batch entry.
        IfNoneMatchInBatch = "if_none_match_in_batch",
        /// A conditional create sent twice, one after the other.
        ConditionalTwice = "conditional_twice",
        /// The same conditional create, several at once. It can show that there is no lock, never that there is one.
        ConditionalParallel = "conditional_parallel",
        /// The current `If-Match` is taken, a stale one refused.
        IfMatch = "if_match",
        /// A stale `ifMatch` of a batch entry is refused.
        IfMatchInBatch = "if_match_in_batch",
        /// The strong form of the ETag is taken too; Ponte sends the weak one.
        IfMatchStrong = "if_match_strong",
        /// The mark of our version is kept and replaced by an update (PROTOCOL §3).
        VersionMark = "version_mark",
        /// Our identifier comes back byte for byte.
        IdentifierKept = "identifier_kept",
        /// `1.10` stays `1.10`.
        Digits = "digits",
        /// What was created is read at once.
        ReadAfterWrite = "read_after_write",
        /// What was created is found by its identifier, and after how long.
        SearchFinds = "search_finds",
        /// A search by an identifier that nobody has returns nothing.
        IdentifierObeyed = "identifier_obeyed",
        /// An unknown search parameter is refused under `Prefer: handling=strict`.
        UnknownParameter = "unknown_parameter",
        /// A create whose line we cut is committed all the same, and when it is seen.
        HangUp = "commit_after_hang_up",
        /// The entries of a batch are judged one by one.
        Batch = "batch",
    }
);

words!(
    /// What came of it.
    Seen {
        /// Seen to work.
        Proven = "proven",
        /// Seen not to work.
        Refused = "refused",
        /// Tried, and nothing was shown either way.
        NotSeen = "not_seen",
        /// Not tried: it needs something that this EHR does not do, or the probe ended before.
        NotTried = "not_tried",
    }
);

/// One finding. Its sentence is made from it ([`Finding::sentence`]), not kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What was tried.
    pub what: What,
    /// What came of it.
    pub seen: Seen,
    /// How often.
    pub tries: u32,
    /// How long it took until it was seen, or was given up, ms.
    pub ms: i64,
    /// How many: resources stored of one create, places that kept the mark.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u32>,
}

/// A probe: when, of which software, what it saw.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Probe {
    /// When it began.
    pub at: Timestamp,
    /// `software` of the CapabilityStatement at that moment.
    #[serde(default)]
    pub software: Option<String>,
    /// Whether it went to its end.
    #[serde(default)]
    pub whole: bool,
    /// One of each kind. A kind that another version of Ponte wrote and this one does not know is left out.
    #[serde(default, deserialize_with = "those_known")]
    pub findings: Vec<Finding>,
}

impl Probe {
    /// What came of one kind of try.
    #[must_use]
    pub fn seen(&self, what: What) -> Seen {
        self.finding(what).map_or(Seen::NotTried, |finding| finding.seen)
    }

    /// The finding of one kind.
    #[must_use]
    pub fn finding(&self, what: What) -> Option<&Finding> {
        self.findings.iter().find(|finding| finding.what == what)
    }

    /// Ordinary traffic showed that it does not hold.
    pub fn refute(&mut self, what: What) {
        self.findings.retain(|finding| finding.what != what);
        self.findings.push(Finding { what, seen: Seen::Refused, tries: 0, ms: 0, count: None });
    }
}

fn those_known<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Finding>, D::Error> {
    let all = Vec::<serde_json::Value>::deserialize(deserializer)?;
    Ok(all.into_iter().filter_map(|one| serde_json::from_value(one).ok()).collect())
}

/// Portuguese and English: what was tried, how it reads when proven, and when refused.
type Words = [&'static str; 6];

fn words_of(what: What) -> Words {
    match what {
        What::OwnId => [
            "Criação com um id nosso (PUT)",
            "A create under an id of ours (PUT)",
            "aceita, e lida de volta",
            "taken, and read back",
            "recusada",
            "refused",
        ],
        What::IfNoneMatch => [
            "`If-None-Match: *` nessa criação",
            "`If-None-Match: *` on such a create",
            "respeitado: o segundo PUT foi recusado e nada mudou",
            "honoured: the second PUT was refused and nothing changed",
            "não respeitado: o segundo PUT sobrescreveu",
            "not honoured: the second PUT overwrote",
        ],
        What::IfNoneMatchInBatch => [
            "`ifNoneMatch: *` dentro de um lote",
            "`ifNoneMatch: *` inside a batch",
            "respeitado",
            "honoured",
            "não respeitado: sobrescreveu",
            "not honoured: it overwrote",
        ],
        What::ConditionalTwice => [
            "Criação condicional, duas vezes seguidas",
            "A conditional create, twice in a row",
            "a segunda achou o registro da primeira",
            "the second found what the first had made",
            "recusada, ou criou outro registro",
            "refused, or it created another",
        ],
        What::ConditionalParallel => [
            "Criações condicionais ao mesmo tempo",
            "Conditional creates at the same time",
            "uma só gravada",
            "one was stored",
            "duplicaram: não há trava",
            "they doubled: there is no lock",
        ],
        What::IfMatch => [
            "`If-Match` em uma correção",
            "`If-Match` on a correction",
            "o atual foi aceito e o vencido recusado",
            "the current one was taken and the stale one refused",
            "o vencido foi aceito: uma correção pode sobrescrever outra",
            "the stale one was taken: one correction may overwrite another",
        ],
        What::IfMatchInBatch => [
            "`ifMatch` dentro de um lote",
            "`ifMatch` inside a batch",
            "o vencido foi recusado",
            "the stale one was refused",
            "o vencido foi aceito",
            "the stale one was taken",
        ],
        What::IfMatchStrong => [
            "`If-Match` na forma forte, sem `W/`",
            "`If-Match` in its strong form, without `W/`",
            "aceito também",
            "taken as well",
            "recusado; Ponte envia a forma fraca",
            "refused; Ponte sends the weak form",
        ],
        What::VersionMark => [
            "Marca da nossa versão (meta.source e extensão)",
            "The mark of our version (meta.source and extension)",
            "guardada, e trocada pela correção",
            "kept, and replaced by a correction",
            "perdida ou misturada: Ponte compara o conteúdo",
            "lost or mixed up: Ponte compares contents",
        ],
        What::IdentifierKept => [
            "Nosso identificador",
            "Our identifier",
            "volta byte por byte",
            "comes back byte for byte",
            "volta alterado ou some",
            "comes back changed, or not at all",
        ],
        What::Digits => [
            "Casas decimais (1.10)",
            "Digits of a decimal (1.10)",
            "guardadas",
            "kept",
            "alteradas; o valor é o mesmo ou a diferença é relatada",
            "changed; the value is the same, or the difference is reported",
        ],
        What::ReadAfterWrite => [
            "Leitura logo após a criação",
            "A read right after the create",
            "mostra o registro",
            "shows the resource",
            "não mostra o registro",
            "does not show the resource",
        ],
        What::SearchFinds => [
            "Busca pelo nosso identificador",
            "A search by our identifier",
            "acha o registro criado",
            "finds what was created",
            "não acha o registro criado",
            "does not find what was created",
        ],
        What::IdentifierObeyed => [
            "Busca por um identificador que não existe",
            "A search by an identifier that nobody has",
            "volta vazia",
            "comes back empty",
            "devolve registros: o parâmetro é ignorado",
            "returns rows: the parameter is ignored",
        ],
        What::UnknownParameter => [
            "Parâmetro de busca desconhecido, com handling=strict",
            "An unknown search parameter, with handling=strict",
            "recusado",
            "refused",
            "ignorado: Ponte confere cada linha",
            "ignored: Ponte checks every row",
        ],
        What::HangUp => [
            "Criação cuja conexão nós cortamos",
            "A create whose line we cut",
            "gravada mesmo assim: uma resposta perdida não é um pedido desfeito",
            "stored all the same: a lost answer is not an undone request",
            "não foi gravada",
            "was not stored",
        ],
        What::Batch => [
            "Lote (batch)",
            "A batch",
            "cada entrada foi julgada por si",
            "each entry was judged by itself",
            "recusado, ou não julgado entrada por entrada",
            "refused, or not judged entry by entry",
        ],
    }
}

impl Finding {
    /// What was seen, for people. It says no more than was seen: what did not happen in N tries is not proven.
    #[must_use]
    pub fn sentence(&self) -> Sentence {
        let [pt, en, good_pt, good_en, bad_pt, bad_en] = words_of(self.what);
        let (tries, ms) = (self.tries, self.ms);
        let (said_pt, said_en) = match (self.what, self.seen) {
            (What::ConditionalParallel, Seen::NotSeen) => (
                format!("não vimos duplicar em {tries} tentativas, o que não prova uma trava"),
                format!("not seen to double in {tries} tries, which does not prove a lock"),
            ),
            (What::ConditionalParallel, Seen::Refused) => match self.count {
                Some(count) => (format!("{bad_pt} (até {count} registros de um só)"), format!("{bad_en} (up to {count} of one)")),
                None => (format!("{bad_pt} (visto no uso diário)"), format!("{bad_en} (seen in ordinary use)")),
            },
            (What::SearchFinds | What::HangUp, Seen::Proven) => {
                (format!("{good_pt} (visto depois de {ms} ms)"), format!("{good_en} (seen after {ms} ms)"))
            }
            (What::SearchFinds, Seen::Refused) => (format!("{bad_pt} em {ms} ms"), format!("{bad_en} within {ms} ms")),
            (What::HangUp, Seen::NotSeen) => (
                format!("não apareceu em {ms} ms, o que não prova que não apareça depois"),
                format!("did not appear within {ms} ms, which does not prove that it never will"),
            ),
            (What::HangUp, Seen::NotTried) if tries > 0 => {
                ("a resposta chegou antes do corte".to_owned(), "the answer came before the cut".to_owned())
            }
            (What::VersionMark, Seen::Proven) if self.count == Some(1) => {
                (format!("{good_pt}, em um dos dois lugares"), format!("{good_en}, in one of the two places"))
            }
            (_, Seen::Proven) => (good_pt.to_owned(), good_en.to_owned()),
            (_, Seen::Refused) => (bad_pt.to_owned(), bad_en.to_owned()),
            (_, Seen::NotSeen) => {
                ("tentado, sem resposta que prove algo".to_owned(), "tried, without an answer that proves anything".to_owned())
            }
            (_, Seen::NotTried) => ("não tentado".to_owned(), "not tried".to_owned()),
        };
        Sentence::new(format!("{pt}: {said_pt}."), format!("{en}: {said_en}."))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_seen_is_never_called_proven() {
        for seen in Seen::ALL {
            let finding = Finding { what: What::ConditionalParallel, seen: *seen, tries: 3, ms: 1, count: Some(2) };
            assert!(!finding.sentence().en.contains("is a lock"));
        }
        let finding = Finding { what: What::ConditionalParallel, seen: Seen::NotSeen, tries: 3, ms: 1, count: Some(1) };
        assert!(finding.sentence().en.ends_with("not seen to double in 3 tries, which does not prove a lock."));
    }

    #[test]
    fn every_finding_has_a_sentence_of_its_own_in_both_languages() {
        let mut all = std::collections::BTreeSet::new();
        for what in What::ALL {
            for seen in [Seen::Proven, Seen::Refused] {
                let said = Finding { what: *what, seen, tries: 1, ms: 5, count: None }.sentence();
                assert!(said.pt_br.ends_with('.') && said.pt_br != said.en);
                assert!(all.insert(said.en), "{what} {seen}");
            }
        }
    }

    #[test]
    fn a_finding_of_another_version_of_ponte_does_not_make_the_plan_unreadable() {
        let text = r#"{"at":"2026-11-25T00:00:00Z","findings":[{"what":"of_tomorrow","seen":"proven","tries":1,"ms":1},
            {"what":"digits","seen":"refused","tries":1,"ms":1}]}"#;
        let probe: Probe = serde_json::from_str(text).unwrap();
        assert_eq!((probe.findings.len(), probe.seen(What::Digits), probe.seen(What::Batch)), (1, Seen::Refused, Seen::NotTried));
    }
}
