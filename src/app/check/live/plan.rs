//! What would be bought: known, priced and confirmed before anything is sent.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::io::{self, IsTerminal};
use std::sync::Arc;

use bytes::Bytes;

use super::picture::{self, PROMPT};
use crate::app::check::CheckArguments;
use crate::config::{CacheMode, Config, InputTransport};
use crate::model::picture::Structure;
use crate::model::{
    ApiKind, Choices, Digest, Input, Model, ModelId, Picture, PictureRequest, PictureTerms, Size, Task, Usd,
};
use crate::upstream::formats::{FormatOptions, FormatRules, InputMethod};

/// One purchase that is planned.
#[derive(Clone, Debug)]
pub(super) struct PurchasePlan {
    pub(super) model: ModelId,
    pub(super) masked: bool,
    /// The only input method that is used; `None`: as the gateway chooses.
    pub(super) method: Option<InputMethod>,
    /// At most.
    pub(super) estimate: Usd,
    pub(super) first_of_model: bool,
}

/// All purchases that are planned, and what is left out.
#[derive(Debug)]
pub(in crate::app::check) struct Plan {
    pub(super) purchases: Vec<PurchasePlan>,
    pub(super) notes: Vec<String>,
}

impl Plan {
    /// Makes the plan for the arguments.
    ///
    /// # Errors
    ///
    /// What is wrong with the arguments, in one line.
    pub(in crate::app::check) fn new(config: &Config, arguments: &CheckArguments) -> Result<Self, String> {
        let default = [config.catalogue.default_model.clone()];
        let names = if arguments.models.is_empty() { &default[..] } else { &arguments.models };
        let mut plan = Self { purchases: Vec::new(), notes: Vec::new() };
        for name in names {
            let model = config.catalogue.find(name).ok_or_else(|| format!("--model {name}: no such model"))?;
            if !model.is_offered(config.upstream.api.api_kinds(), Task::Edit) {
                let api = config.upstream.api.name();
                return Err(format!("--model {name}: it has no edits with upstream.api = \"{api}\""));
            }
            let methods = if arguments.all_input_methods { methods(config, model) } else { vec![None] };
            plan.add(model, false, &methods);
            if arguments.mask {
                match api_kind(config, model, true) {
                    Some(_) => plan.add(model, true, &[None]),
                    None => plan.notes.push(format!("{}: no mask, the model has none", model.id)),
                }
            }
        }
        if config.upstream.inputs.iter().any(|transport| transport == InputTransport::Links) {
            plan.notes.push("links: not checked, they need the gateway itself at server.public_url".to_owned());
        }
        Ok(plan)
    }

    fn add(&mut self, model: &Model, masked: bool, methods: &[Option<InputMethod>]) {
        for &method in methods {
            let first_of_model = !self.purchases.iter().any(|purchase| purchase.model == model.id);
            let (model, estimate) = (model.id.clone(), model.price.estimate(1, PictureTerms::default()));
            self.purchases.push(PurchasePlan { model, masked, method, estimate, first_of_model });
        }
    }

    /// Returns what all purchases cost together, at most.
    pub(in crate::app::check) fn usd(&self) -> f64 {
        self.purchases.iter().map(|purchase| purchase.estimate.0).sum()
    }

    /// Describes the plan for a person.
    pub(in crate::app::check) fn text(&self) -> String {
        let mut text = "check --live buys from the upstream:\n".to_owned();
        for purchase in &self.purchases {
            let _ = writeln!(text, "  {:<40} at most ${:.3}", purchase.title(), purchase.estimate.0);
        }
        for note in &self.notes {
            let _ = writeln!(text, "  {note}");
        }
        let _ = writeln!(text, "  together at most ${:.3}", self.usd());
        text
    }

    /// Asks for a confirmation at a terminal, unless the arguments have it.
    ///
    /// # Errors
    ///
    /// Why nothing may be bought.
    pub(in crate::app::check) fn confirm(&self, arguments: &CheckArguments) -> Result<(), String> {
        let (usd, most) = (self.usd(), arguments.max_usd);
        if usd > most {
            return Err(format!("it could cost ${usd:.3}, more than --max-usd {most}; nothing was bought"));
        }
        if arguments.yes {
            return Ok(());
        }
        if !io::stdin().is_terminal() {
            return Err("not confirmed, so nothing was bought; repeat with --yes to buy".to_owned());
        }
        eprint!("Buy? [y/N] ");
        let mut answer = String::new();
        let read = io::stdin().read_line(&mut answer).is_ok();
        if read && matches!(answer.trim(), "y" | "Y" | "yes") {
            Ok(())
        } else {
            Err("not confirmed, so nothing was bought".to_owned())
        }
    }
}

impl PurchasePlan {
    /// Returns the title of its rows.
    pub(super) fn title(&self) -> String {
        let mask = if self.masked { ", edit with a mask" } else { "" };
        match self.method {
            Some(method) => format!("{}{mask}, input method {}", self.model, method.name()),
            None => format!("{}{mask}", self.model),
        }
    }

    /// Returns the configuration with which it is made: the operator's, without an answer from the cache and without
    /// published pictures, and with its input method alone where it has one.
    pub(super) fn configuration(&self, config: &Config) -> Config {
        let mut config = config.clone();
        config.cache.mode = CacheMode::Off;
        config.upstream.inputs = match self.method.map(InputMethod::transport) {
            Some(Some(transport)) => config.upstream.inputs.only(transport),
            Some(None) | None => config.upstream.inputs.without(InputTransport::Links),
        };
        config
    }

    /// Returns the request. `number` makes it a job of its own.
    pub(super) fn request(&self, config: &Config, number: u8) -> Option<PictureRequest> {
        let model = config.catalogue.find(&self.model)?;
        let api_kind = api_kind(config, model, self.masked)?;
        let capabilities = model.capabilities(api_kind, Task::Edit)?;
        let mut choices = Choices::default();
        for (name, choice) in capabilities.choices() {
            // The cheapest picture, where the price depends on its tokens.
            let low = name == "quality" && model.price.output_usd_per_million_tokens.is_some();
            let value = if low && choice.values.iter().any(|value| value == "low") { "low" } else { &choice.auto };
            choices.set(name, value);
        }
        let square = Size { width: 1024, height: 1024 };
        let listed = &capabilities.size.auto;
        let size = if listed.contains(&square) { square } else { *listed.first()? };
        let file = |bytes: Bytes| {
            let structure = Structure::of(&bytes).ok()?;
            let picture = Picture { digest: Digest::of(&bytes), bytes: bytes.len() as u64, structure };
            Some(Input::Bytes { picture, source: Arc::new(bytes) })
        };
        Some(PictureRequest {
            task: Task::Edit,
            model: model.id.clone(),
            prompt: PROMPT.to_owned(),
            inputs: vec![file(picture::input(number))?],
            mask: if self.masked { Some(file(picture::mask())?) } else { None },
            n: 1,
            size,
            choices,
            // Nothing is asked for by name, so that every format may be tried.
            explicit: BTreeSet::new(),
            api_kind,
        })
    }
}

/// Returns the upstream API that an edit is sent to first.
fn api_kind(config: &Config, model: &Model, masked: bool) -> Option<ApiKind> {
    let offers = |api_kind: &ApiKind| {
        model.capabilities(*api_kind, Task::Edit).is_some_and(|has| has.inline && (!masked || has.mask))
    };
    config.upstream.api.api_kinds().iter().copied().find(offers)
}

/// Returns every input method that an edit of a file can use, except links.
fn methods(config: &Config, model: &Model) -> Vec<Option<InputMethod>> {
    let plan = PurchasePlan {
        model: model.id.clone(),
        masked: false,
        method: None,
        estimate: Usd::default(),
        first_of_model: true,
    };
    let config = plan.configuration(config);
    let request = plan.request(&config, 0);
    let options = request.map(|request| formats(&config, model, &request));
    let methods = options.into_iter().flat_map(|options| options.methods);
    methods.map(|(method, _)| Some(method)).collect()
}

/// Returns the formats that a request can be written in with a configuration.
pub(super) fn formats(config: &Config, model: &Model, request: &PictureRequest) -> FormatOptions {
    FormatOptions::of(model, request, 1, &FormatRules::new(&config.upstream, false), None)
}
