//! Fills in a campaign's texts for one customer.
//!
//! The texts are templates in the language of Jinja, written by people who are trusted with the words and not with the
//! machine. So they see the values that they are given and nothing else: no files, no other templates, no functions,
//! and only the filters in `language`. Fuel bounds the work and the memory of one text, and what comes out is
//! at most [`MAX_OUTPUT`] long. Values are escaped in HTML, and only there.
//!
//! A variable that is not there, or is null, is an error and never an empty string: "Dear ," and "Dear none," are mails
//! that nobody wants to have sent. A text that can do without says so: `{{ customer.name | default("friend", true) }}`.
//!
//! A campaign's templates are compiled once per revision and kept for the last [`MAX_CAMPAIGNS`] campaigns. The same id
//! and revision must therefore always mean the same texts; texts that are not saved yet need a [`Renderer`] of their own.

mod error;
mod language;
mod length;
mod part;
mod values;
mod variables;

pub use error::{Place, RenderError};
pub use language::check_template;
pub use length::least_segments;
pub use part::Part;
pub use values::{Context, TimelineValues, Values};
pub use variables::{VARIABLES, VariableUses};

use minijinja::{Environment, ErrorKind, Template, UndefinedBehavior};
use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::domain::text::is_forbidden_in_line;
use crate::domain::{Campaign, CampaignId, Channel};
use language::{add, environment};

/// The longest text that may come out, in bytes.
const MAX_OUTPUT: usize = 1024 * 1024;

/// How many campaigns are kept compiled.
const MAX_CAMPAIGNS: usize = 256;

/// What a campaign says to one customer.
#[derive(Clone, PartialEq, Eq)]
pub enum Rendered {
    /// A mail; at least one of `text` and `html` is there.
    Email {
        /// The subject, in one line.
        subject: String,
        /// What mail programs show beside the subject, in one line.
        preheader: Option<String>,
        /// The plain text part.
        text: Option<String>,
        /// The HTML part.
        html: Option<String>,
    },
    /// A text message.
    Sms {
        /// What it says.
        text: String,
    },
    /// A call.
    Call {
        /// What is said.
        script: String,
    },
    /// A task for a person.
    Task {
        /// The title, in one line.
        title: String,
        /// The description; may be empty.
        text: String,
    },
}

impl fmt::Debug for Rendered {
    /// Shows what kind it is, because logs are no place for what customers are told.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Email { .. } => "Email(..)",
            Self::Sms { .. } => "Sms(..)",
            Self::Call { .. } => "Call(..)",
            Self::Task { .. } => "Task(..)",
        })
    }
}

/// Fills in campaigns. One for the whole process.
#[derive(Debug, Default)]
pub struct Renderer {
    compiled: Mutex<HashMap<CampaignId, Arc<Compiled>>>,
    uses: AtomicU64,
}

/// The templates of one revision of a campaign.
#[derive(Debug)]
struct Compiled {
    revision: i64,
    environment: Environment<'static>,
    /// Why a part is not in the environment although the campaign has it.
    broken: HashMap<Part, RenderError>,
    /// The number of the last use, to know which campaign to forget.
    last_use: AtomicU64,
}

impl Renderer {
    /// A renderer with nothing compiled yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Fills in what `campaign` says on `channel`.
    pub fn render(&self, channel: Channel, campaign: &Campaign, context: &Context) -> Result<Rendered, RenderError> {
        let compiled = self.compiled(campaign);
        let part = |part: Part| compiled.render(part, campaign, context);
        let missing = |needs| RenderError::Missing {
            channel,
            campaign: campaign.id.clone(),
            needs,
        };
        match channel {
            Channel::Email => {
                let subject = part(Part::Subject)?.ok_or_else(|| missing("subject"))?;
                let (text, html) = (part(Part::TextBody)?, part(Part::HtmlBody)?);
                if text.is_none() && html.is_none() {
                    return Err(missing("text_body or html_body"));
                }
                let preheader = part(Part::Preheader)?;
                Ok(Rendered::Email {
                    subject,
                    preheader,
                    text,
                    html,
                })
            }
            Channel::Sms => Ok(Rendered::Sms {
                text: part(Part::SmsText)?.ok_or_else(|| missing("sms_text"))?,
            }),
            Channel::Phone => Ok(Rendered::Call {
                script: part(Part::CallScript)?.ok_or_else(|| missing("call_script"))?,
            }),
            Channel::Interaction => {
                let title = part(Part::Subject)?.ok_or_else(|| missing("subject"))?;
                Ok(Rendered::Task {
                    title,
                    text: part(Part::TextBody)?.unwrap_or_default(),
                })
            }
            Channel::Wait => Err(RenderError::NothingToSend(channel)),
        }
    }

    /// Fills in one text of `campaign`; none when it does not have it.
    pub fn render_part(
        &self,
        part: Part,
        campaign: &Campaign,
        context: &Context,
    ) -> Result<Option<String>, RenderError> {
        self.compiled(campaign).render(part, campaign, context)
    }

    /// The campaign's templates, compiled now unless they were before.
    fn compiled(&self, campaign: &Campaign) -> Arc<Compiled> {
        let this_use = self.uses.fetch_add(1, Ordering::Relaxed);
        let known = self
            .compiled
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&campaign.id)
            .map(Arc::clone);
        if let Some(compiled) = known.filter(|compiled| compiled.revision == campaign.revision) {
            compiled.last_use.store(this_use, Ordering::Relaxed);
            return compiled;
        }
        let compiled = Arc::new(Compiled::new(campaign, this_use));
        let mut all = self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(campaign.id.clone(), Arc::clone(&compiled));
        if all.len() > MAX_CAMPAIGNS {
            let oldest = all
                .iter()
                .min_by_key(|(_, compiled)| compiled.last_use.load(Ordering::Relaxed));
            if let Some(id) = oldest.map(|(id, _)| id.clone()) {
                all.remove(&id);
            }
        }
        compiled
    }
}

impl Compiled {
    fn new(campaign: &Campaign, this_use: u64) -> Self {
        let mut environment = environment(UndefinedBehavior::Strict);
        let mut broken = HashMap::new();
        for part in Part::ALL {
            let source = part.of(campaign);
            if source.is_empty() {
                continue;
            }
            if let Err(error) = add(&mut environment, part, source) {
                broken.insert(part, error);
            }
        }
        Self {
            revision: campaign.revision,
            environment,
            broken,
            last_use: AtomicU64::new(this_use),
        }
    }

    /// Fills in one text; none when the campaign does not have it.
    fn render(&self, part: Part, campaign: &Campaign, context: &Context) -> Result<Option<String>, RenderError> {
        if part.of(campaign).is_empty() {
            return Ok(None);
        }
        if let Some(error) = self.broken.get(&part) {
            return Err(error.clone());
        }
        let template = self
            .environment
            .get_template(part.as_str())
            .map_err(|error| RenderError::failed(part, &error))?;
        let text = template.render(context.0.clone()).map_err(|error| {
            if error.kind() == ErrorKind::UndefinedError {
                let at = Place {
                    part: Some(part),
                    line: error.line(),
                };
                RenderError::Variable {
                    at,
                    names: without_value(&template, context, at.line),
                }
            } else {
                RenderError::failed(part, &error)
            }
        })?;
        if text.len() > MAX_OUTPUT {
            let problem = format!("more than {MAX_OUTPUT} bytes came out");
            return Err(RenderError::Failed {
                at: Place {
                    part: Some(part),
                    line: None,
                },
                problem,
            });
        }
        let is_line = matches!(part, Part::Subject | Part::Preheader);
        if is_line && text.chars().any(is_forbidden_in_line) {
            return Err(RenderError::ControlCharacter(part));
        }
        if text.trim().is_empty() {
            return Err(RenderError::Blank(part));
        }
        Ok(Some(text))
    }
}

/// The variables of a template that have no value; of these, the ones on the line of the error, if there are any.
fn without_value(template: &Template<'_, '_>, context: &Context, line: Option<usize>) -> Vec<String> {
    let mut names: Vec<String> = template
        .undeclared_variables(true)
        .into_iter()
        .filter(|name| !context.has(name))
        .collect();
    names.sort_unstable();
    let source = line
        .and_then(|line| template.source().lines().nth(line - 1))
        .unwrap_or_default();
    if names.iter().any(|name| source.contains(name.as_str())) {
        names.retain(|name| source.contains(name.as_str()));
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{CampaignKind, MailHeaders, Tracking};
    use chrono::DateTime;
    use minijinja::value::{Serde, Value};
    use serde_json::json;

    fn campaign(revision: i64, texts: &[(Part, &str)]) -> Campaign {
        let text = |part| {
            texts
                .iter()
                .find(|(given, _)| *given == part)
                .map_or("", |(_, text)| text)
                .to_owned()
        };
        Campaign {
            id: CampaignId::parse("HOOK-001").expect("valid"),
            name: "Hook".to_owned(),
            subject: text(Part::Subject),
            text_body: text(Part::TextBody),
            html_body: text(Part::HtmlBody),
            sms_text: text(Part::SmsText),
            call_script: text(Part::CallScript),
            kind: CampaignKind::Transactional,
            preheader: text(Part::Preheader),
            sender: String::new(),
            reply_to: String::new(),
            headers: MailHeaders::default(),
            tracking: Tracking::default(),
            sms_max_segments: 3,
            revision,
            created_at: DateTime::UNIX_EPOCH,
            updated_at: DateTime::UNIX_EPOCH,
        }
    }

    fn of(values: &serde_json::Value) -> Context {
        Context(Value::from(Serde(values)))
    }

    fn context() -> Context {
        of(&json!({"customer": {"name": "Zoë <O'Neil>", "plan": null, "tags": ["a", "b"], "orders": [{"id": 1}]}}))
    }

    /// Fills in one template as a text message.
    #[track_caller]
    fn check(template: &str, expected: &str) {
        let rendered = Renderer::new().render(Channel::Sms, &campaign(1, &[(Part::SmsText, template)]), &context());
        assert_eq!(
            rendered,
            Ok(Rendered::Sms {
                text: expected.to_owned()
            }),
            "{template}"
        );
    }

    #[track_caller]
    fn check_error(template: &str, expected: &str) {
        let rendered = Renderer::new().render(Channel::Sms, &campaign(1, &[(Part::SmsText, template)]), &context());
        let error = rendered.expect_err(template).to_string();
        assert!(error.starts_with(expected), "{template}: {error}");
    }

    #[test]
    fn templates_are_filled_in() {
        check("Hi {{ customer.name }}!", "Hi Zoë <O'Neil>!");
        check("{% for tag in customer.tags %}{{ tag | upper }}{% endfor %}", "AB");
        check("{% if customer.tags | length == 2 %}two{% endif %}", "two");
        check("{{ customer.nickname | default('friend') }}", "friend");
        check("{{ customer.plan | default('none yet', true) }}", "none yet");
        check("{% if customer.nickname is defined %}x{% else %}y{% endif %}", "y");
        check("{% if customer.plan is none %}y{% endif %}", "y");
        check(
            "{% macro greet(name) %}Hi {{ name }}{% endmacro %}{{ greet('you') }}",
            "Hi you",
        );
        check("ends in a line break\n", "ends in a line break");
    }

    #[test]
    fn errors_say_what_and_where() {
        check_error(
            "Hi\n{{ customer.nmae }}",
            "sms_text, line 2: no value for customer.nmae",
        );
        check_error("{{ custmer.name }}", "sms_text, line 1: no value for custmer.name");
        check_error("{{ customer.plan }}", "sms_text, line 1: no value for customer.plan");
        check_error("{% if nobody %}x{% endif %}", "sms_text, line 1: no value for nobody");
        check_error(
            "{% for o in customer.orders %}{{ o.total }}{% endfor %}",
            "sms_text, line 1: no value for a variable",
        );
        check_error("a\nb {{ customer.", "sms_text, line 2: syntax error");
        check_error(
            "{{ customer.name | format }}",
            "sms_text, line 1: unknown filter: filter format is unknown",
        );
        check_error("{{ range(9) }}", "sms_text, line 1: unknown function");
        check_error("  \n ", "sms_text: nothing but white space came out");
        check_error("", "sms needs sms_text, which campaign HOOK-001 does not have");
    }

    #[test]
    fn a_channel_takes_its_own_texts() {
        let all = [
            (Part::Subject, "S {{ customer.name }}"),
            (Part::Preheader, "P {{ customer.name }}"),
            (Part::TextBody, "T {{ customer.name }}"),
            (Part::HtmlBody, "H {{ customer.name }}"),
            (Part::SmsText, "M"),
            (Part::CallScript, "C"),
        ];
        let renderer = Renderer::new();
        let render = |channel| renderer.render(channel, &campaign(1, &all), &context());
        let email = Rendered::Email {
            subject: "S Zoë <O'Neil>".to_owned(),
            preheader: Some("P Zoë <O'Neil>".to_owned()),
            text: Some("T Zoë <O'Neil>".to_owned()),
            html: Some("H Zoë &lt;O&#x27;Neil&gt;".to_owned()),
        };
        let task = Rendered::Task {
            title: "S Zoë <O'Neil>".to_owned(),
            text: "T Zoë <O'Neil>".to_owned(),
        };
        assert_eq!(render(Channel::Email), Ok(email));
        assert_eq!(render(Channel::Sms), Ok(Rendered::Sms { text: "M".to_owned() }));
        assert_eq!(render(Channel::Phone), Ok(Rendered::Call { script: "C".to_owned() }));
        assert_eq!(render(Channel::Interaction), Ok(task));
        assert_eq!(render(Channel::Wait), Err(RenderError::NothingToSend(Channel::Wait)));
    }

    #[test]
    fn missing_and_broken_texts_matter_to_their_channel_only() {
        let texts = [(Part::Subject, "S"), (Part::HtmlBody, "H"), (Part::SmsText, "{{")];
        let renderer = Renderer::new();
        let render = |channel| renderer.render(channel, &campaign(1, &texts), &context());
        assert!(matches!(render(Channel::Email), Ok(Rendered::Email { text: None, .. })));
        assert!(matches!(render(Channel::Interaction), Ok(Rendered::Task { text, .. }) if text.is_empty()));
        assert!(matches!(render(Channel::Sms), Err(RenderError::Template { .. })));
        assert!(matches!(
            render(Channel::Phone),
            Err(RenderError::Missing {
                needs: "call_script",
                ..
            })
        ));
    }

    #[test]
    fn a_subject_is_one_line() {
        for name in ["a\nb", "a\r\nBcc: x@y.z", "a\0", "\u{202e}a"] {
            let texts = [(Part::Subject, "Hi {{ name }}"), (Part::TextBody, "{{ name }}")];
            let rendered = Renderer::new().render(Channel::Email, &campaign(1, &texts), &of(&json!({ "name": name })));
            assert_eq!(rendered, Err(RenderError::ControlCharacter(Part::Subject)), "{name:?}");
        }
    }

    #[test]
    fn hostile_templates_end_soon() {
        for template in [
            "{{ 'a' * 20000000000 }}",
            "{{ 'a' * 100000000 }}",
            "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
            "{% set x = 'aaaaaaaaaaaaaaaa' %}{% for a in 'x' * 1000 %}{% for b in 'x' * 1000 %}{{ x }}{% endfor %}{% endfor %}",
            "{{ '%1000000000d' | format(1) }}",
            "{{ ('a' * 60000) | replace('a', 'b' * 60000) }}",
            "{{ ('a,' * 60000) | split(',') | join('b' * 60000) }}",
            "{{ 1.5 | round(1000000000) ~ 10 ** 1000000 }}",
            "{{ customer.__class__.__mro__ }}",
            "{% include '/etc/passwd' %}",
            "{% import 'x' as y %}",
            "{% extends 'subject' %}",
            &"(".repeat(10_000),
            &format!("{{{{ {} }}}}", "(".repeat(10_000)),
            &"x".repeat(MAX_OUTPUT),
        ] {
            let short: String = template.chars().take(60).collect();
            let started = std::time::Instant::now();
            let rendered = Renderer::new().render(Channel::Sms, &campaign(1, &[(Part::SmsText, template)]), &context());
            assert!(rendered.is_err() || short.starts_with("((("), "{short}");
            assert!(
                started.elapsed().as_millis() < 1_000,
                "{short}: {:?}",
                started.elapsed()
            );
        }
    }

    #[test]
    fn a_new_revision_is_compiled_anew_and_few_campaigns_are_kept() {
        let renderer = Renderer::new();
        for (revision, text) in [(1, "one"), (2, "two"), (1, "one")] {
            let campaign = campaign(revision, &[(Part::SmsText, text)]);
            let expected = Rendered::Sms { text: text.to_owned() };
            assert_eq!(renderer.render(Channel::Sms, &campaign, &context()), Ok(expected));
        }
        for number in 0..MAX_CAMPAIGNS + 10 {
            let id = CampaignId::parse(&format!("C-{number}")).expect("valid");
            let campaign = Campaign {
                id,
                ..campaign(1, &[(Part::SmsText, "x")])
            };
            renderer.render(Channel::Sms, &campaign, &context()).expect("rendered");
        }
        let kept = renderer.compiled.lock().expect("not poisoned");
        assert_eq!(kept.len(), MAX_CAMPAIGNS);
        assert!(!kept.contains_key(&CampaignId::parse("HOOK-001").expect("valid")));
    }
}
