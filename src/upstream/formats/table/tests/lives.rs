//! Random lives of the table: an upstream that accepts any subset of methods, parameters, sizes and keys, bursts of
//! purchases, and restarts at any time. One seed for each life; `FORMAT_LIVES=100000` runs more of them.
//!
//! A life fails when a purchase is refused more than three times, or is refused for a format although the same was known
//! from a success before; when a parameter of the client's is altered; when a purchase waits on after its time, or for
//! nothing; when two purchases try something unknown at once; and when an upstream that accepts some format is never understood.

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;

const METHODS: [Method; 4] = [A, (InputMethod::Links, false), C, D];
const FIELDS: [&str; 3] = ["background", "n", "quality"];
const LIVES: u64 = 1000;

/// What uses the table in a wrong way on purpose.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Variant {
    AsBuilt,
    /// A purchase does not know what it has tried.
    NoTries,
    /// Nothing is read at a start.
    NothingStored,
    /// Acceptances are not reported.
    NoAcceptance,
    /// Parameters count as optional although the client asked for them.
    AllOptional,
    /// A purchase that is to wait is submitted.
    NoWait,
    /// A purchase that waits is a new one each time.
    NewNames,
}

/// What an upstream accepts.
#[derive(Debug)]
struct Upstream {
    refused_methods: BTreeMap<Method, FormatRefusal>,
    refused_fields: Vec<&'static str>,
    refuses_size: bool,
    /// The styles in which it reads keys.
    keys: Vec<AuthStyle>,
    parameters_first: bool,
}

#[derive(Debug)]
struct Purchase {
    number: u32,
    account: AccountId,
    options: FormatOptions,
    explicit: Vec<&'static str>,
    tries: FormatTries,
    refused: usize,
    /// The end of its wait.
    until: Option<Instant>,
    sent: Option<Sent>,
}

#[derive(Clone, Debug)]
struct Sent {
    format: RequestFormat,
    /// Another submit through the account had been accepted before.
    after_success: bool,
    /// It tries something unknown, before its time to wait was over.
    probes: bool,
}

struct World {
    random: StdRng,
    variant: Variant,
    upstream: Upstream,
    table: FormatTable,
    begun: Instant,
    elapsed: Duration,
    purchases: Vec<Purchase>,
    names: u32,
    /// Methods that were accepted, by account.
    accepted: Vec<(AccountId, Method)>,
    counts: Counts,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    submits: usize,
    refused: usize,
    accepted: usize,
    waits: usize,
    restarts: usize,
}

impl Upstream {
    fn random(random: &mut StdRng) -> Self {
        let mut refused_methods = BTreeMap::new();
        for method in METHODS {
            if random.random_bool(0.5) {
                let refusal = match random.random_range(0..5) {
                    0 => FormatRefusal::Path,
                    1 => FormatRefusal::Field("image".to_owned()),
                    2 if !refused_methods.values().any(|refusal| *refusal == FormatRefusal::Unclear) => {
                        FormatRefusal::Unclear
                    }
                    _ => FormatRefusal::Inputs,
                };
                refused_methods.insert(method, refusal);
            }
        }
        let refused_fields = FIELDS.into_iter().filter(|_| random.random_bool(0.25)).collect();
        let keys: &[AuthStyle] = match random.random_range(0..3) {
            0 => &[AuthStyle::Bearer],
            1 => &[AuthStyle::Raw],
            _ => &[AuthStyle::Bearer, AuthStyle::Raw],
        };
        Self {
            refused_methods,
            refused_fields,
            refuses_size: random.random_bool(0.25),
            keys: keys.to_vec(),
            parameters_first: random.random_bool(0.5),
        }
    }

    fn refusal(&self, format: &RequestFormat) -> Option<FormatRefusal> {
        if !self.keys.contains(&format.auth) {
            return Some(FormatRefusal::Auth);
        }
        let method = self.refused_methods.get(&(format.method, format.fetch_links)).cloned();
        let field = self.refused_fields.iter().find(|&&name| !format.omitted.contains(name));
        let size = (self.refuses_size && format.size.is_none()).then_some(FormatRefusal::Size);
        let parameter = field.map(|&name| FormatRefusal::Field(name.to_owned())).or(size);
        if self.parameters_first { parameter.or(method) } else { method.or(parameter) }
    }

    /// Returns whether some format of a purchase is accepted.
    fn accepts(&self, purchase: &Purchase) -> bool {
        METHODS.iter().any(|method| !self.refused_methods.contains_key(method)) && !self.refuses_clients(purchase)
    }

    /// Returns whether a parameter is refused that the client asked for.
    fn refuses_clients(&self, purchase: &Purchase) -> bool {
        self.refused_fields.iter().any(|name| purchase.explicit.contains(name))
            || (self.refuses_size && purchase.explicit.contains(&"size"))
    }
}

impl World {
    fn new(seed: u64, variant: Variant) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        Self {
            upstream: Upstream::random(&mut random),
            random,
            variant,
            table: FormatTable::new(FirstContact::Adapt, FormatBasis::for_test("one"), StoredFormats::default()),
            begun: Instant::now(),
            elapsed: Duration::ZERO,
            purchases: Vec::new(),
            names: 0,
            accepted: Vec::new(),
            counts: Counts::default(),
        }
    }

    fn now(&self) -> (Instant, Timestamp) {
        (self.begun + self.elapsed, Timestamp::from_millis(1_790_000_000_000).plus(self.elapsed))
    }

    fn arrive(&mut self, explicit: Vec<&'static str>) {
        let number = self.name();
        let account = if self.random.random_bool(0.7) { "main" } else { "second" };
        let is_optional = |name: &&str| self.variant == Variant::AllOptional || !explicit.contains(name);
        let optional = FIELDS.into_iter().filter(is_optional).map(str::to_owned).collect();
        let other_size = options(&METHODS).other_size.filter(|_| is_optional(&"size"));
        self.purchases.push(Purchase {
            number,
            account: AccountId(account.into()),
            options: FormatOptions { optional, other_size, ..options(&METHODS) },
            explicit,
            tries: FormatTries::default(),
            refused: 0,
            until: None,
            sent: None,
        });
    }

    fn name(&mut self) -> u32 {
        self.names += 1;
        self.names
    }

    /// Lets one thing happen.
    fn step(&mut self) -> Result<(), String> {
        match self.random.random_range(0..20) {
            0 => self.elapsed += Duration::from_secs(self.random.random_range(1..40)),
            1 if self.random.random_bool(0.2) => self.restart(),
            2 if self.names < 40 => {
                let burst = self.random.random_range(1..6);
                for _ in 0..burst {
                    let all = ["background", "n", "quality", "size"];
                    let explicit = all.into_iter().filter(|_| self.random.random_bool(0.1)).collect();
                    self.arrive(explicit);
                }
            }
            _ if !self.purchases.is_empty() => {
                let index = self.random.random_range(0..self.purchases.len());
                return self.act(index);
            }
            _ => {}
        }
        Ok(())
    }

    /// Submits a purchase, or gives it the answer.
    fn act(&mut self, index: usize) -> Result<(), String> {
        let mut purchase = self.purchases.swap_remove(index);
        let ended = match purchase.sent.take() {
            None => self.submit(&mut purchase)?,
            Some(sent) => self.answer(&mut purchase, &sent)?,
        };
        if !ended {
            self.purchases.push(purchase);
        }
        Ok(())
    }

    fn submit(&mut self, purchase: &mut Purchase) -> Result<bool, String> {
        let (now, at) = self.now();
        if self.variant == Variant::NewNames && purchase.until.is_some() {
            purchase.number = self.name();
        }
        if self.variant == Variant::NoTries {
            purchase.tries = FormatTries::default();
        }
        let about = FormatSubject { account: purchase.account.clone(), ..subject() };
        let name = name_of(purchase.number);
        let submit = match self.table.choose(&about, &purchase.options, &purchase.tries, name, now, at) {
            FormatChoice::Submit(submit) => submit.format,
            FormatChoice::Exhausted(_) => return Ok(true),
            FormatChoice::Wait { .. } if self.variant == Variant::NoWait => purchase.options.first(),
            FormatChoice::Wait { until } => {
                self.counts.waits += 1;
                if purchase.until.is_some_and(|until| until <= now) {
                    return Err(format!("purchase {} waits on after its time", purchase.number));
                }
                purchase.until = Some(until);
                let is_under_way = |other: &Purchase| other.account == purchase.account && other.sent.is_some();
                if !self.purchases.iter().any(is_under_way) {
                    return Err(format!("purchase {} waits for nothing", purchase.number));
                }
                return Ok(false);
            }
        };
        self.counts.submits += 1;
        let altered = submit.omitted.iter().any(|name| purchase.explicit.contains(&name.as_str()))
            || (submit.size.is_some() && purchase.explicit.contains(&"size"));
        if altered {
            return Err(format!("a parameter of the client's was altered: {}", submit.describe()));
        }
        let method = (submit.method, submit.fetch_links);
        let is_known = self.accepted.contains(&(purchase.account.clone(), method));
        let probes = !is_known && purchase.until.is_none_or(|until| now < until);
        let is_probing = |other: &&Purchase| {
            other.account == purchase.account && other.sent.as_ref().is_some_and(|sent| sent.probes)
        };
        if probes && let Some(other) = self.purchases.iter().find(is_probing) {
            return Err(format!("purchases {} and {} probe at once", other.number, purchase.number));
        }
        let after_success = self.accepted.iter().any(|(account, _)| *account == purchase.account);
        purchase.until = None;
        purchase.sent = Some(Sent { format: submit, after_success, probes });
        Ok(false)
    }

    fn answer(&mut self, purchase: &mut Purchase, sent: &Sent) -> Result<bool, String> {
        let at = self.now().1;
        let about = FormatSubject { account: purchase.account.clone(), ..subject() };
        let name = name_of(purchase.number);
        if self.random.random_bool(0.03) {
            self.table.no_verdict(name);
            // A pushback, or an unknown outcome.
            return Ok(self.random.random_bool(0.5));
        }
        let Some(refusal) = self.upstream.refusal(&sent.format) else {
            self.counts.accepted += 1;
            self.accepted.push((purchase.account.clone(), (sent.format.method, sent.format.fetch_links)));
            if self.variant != Variant::NoAcceptance {
                self.table.accepted(&about, &sent.format, &purchase.tries, name, at);
            }
            return Ok(true);
        };
        self.counts.refused += 1;
        purchase.refused += 1;
        if purchase.refused > 3 {
            return Err(format!("purchase {} was refused {} times", purchase.number, purchase.refused));
        }
        if sent.after_success && !self.upstream.refuses_clients(purchase) {
            return Err(format!("refused after a success: {}, {refusal:?}", sent.format.describe()));
        }
        let failure = Failure::InvalidRequest { message: format!("{refusal:?}") };
        let tries = &mut purchase.tries;
        let verdict = self.table.refused(&about, &purchase.options, &sent.format, refusal, failure, tries, name, at);
        Ok(verdict != FormatVerdict::TryAnother)
    }

    /// Kills the gateway and starts another one. Purchases do not survive that: they are stopped, or of unknown outcome.
    fn restart(&mut self) {
        self.counts.restarts += 1;
        self.purchases.clear();
        let stored = serde_json::to_string(&self.table.stored()).unwrap();
        let stored = if self.variant == Variant::NothingStored { "{}" } else { &stored };
        let stored = serde_json::from_str(stored).unwrap();
        self.table = FormatTable::new(FirstContact::Adapt, FormatBasis::for_test("one"), stored);
    }

    fn live(&mut self) -> Result<(), String> {
        self.arrive(Vec::new());
        for _ in 0..self.random.random_range(20..400) {
            self.step()?;
        }
        self.rest()?;
        // Later, one after another: what can be bought is bought in the end, through each account.
        for _ in 0..30 {
            self.elapsed += Duration::from_mins(61);
            self.arrive(Vec::new());
            self.rest()?;
        }
        let accepted = self.counts.accepted;
        for _ in 0..4 {
            self.arrive(Vec::new());
            let is_accepted = self.upstream.accepts(&self.purchases[0]);
            let before = self.counts;
            self.rest()?;
            if is_accepted && self.counts.refused > before.refused {
                return Err(format!("not understood in the end: {:?}", self.upstream));
            }
        }
        let can_be = METHODS.iter().any(|method| !self.upstream.refused_methods.contains_key(method));
        if can_be && self.counts.accepted == accepted && accepted == 0 {
            return Err(format!("never accepted: {:?}", self.upstream));
        }
        Ok(())
    }

    /// Lets everything end.
    fn rest(&mut self) -> Result<(), String> {
        for round in 0.. {
            if self.purchases.is_empty() {
                break;
            }
            if round > 5000 {
                return Err(format!("{} purchases do not end", self.purchases.len()));
            }
            self.elapsed += Duration::from_millis(500);
            let index = self.random.random_range(0..self.purchases.len());
            self.act(index)?;
        }
        Ok(())
    }
}

fn name_of(number: u32) -> PurchaseId {
    PurchaseId { job: JobId::new(Timestamp::from_millis(1_790_000_000_000), u128::from(number)), slot: 0 }
}

fn run(seed: u64, variant: Variant) -> Result<Counts, String> {
    let mut world = World::new(seed, variant);
    world.live().map(|()| world.counts).map_err(|violation| format!("seed {seed}: {violation}"))
}

#[test]
fn no_life_breaks_a_promise() {
    let lives = std::env::var("FORMAT_LIVES").ok().and_then(|text| text.parse().ok()).unwrap_or(LIVES);
    let mut sum = Counts::default();
    for seed in 0..lives {
        let Counts { submits, refused, accepted, waits, restarts } =
            run(seed, Variant::AsBuilt).unwrap_or_else(|violation| panic!("{violation}"));
        sum.submits += submits;
        sum.refused += refused;
        sum.accepted += accepted;
        sum.waits += waits;
        sum.restarts += restarts;
    }
    println!("{lives} lives: {sum:?}");
    // A world in which nothing happens would prove nothing.
    let enough = usize::try_from(lives).unwrap();
    assert!(
        sum.accepted > 10 * enough && sum.refused > 2 * enough && sum.waits > enough && sum.restarts > enough,
        "{sum:?}"
    );
}

#[test]
fn what_is_broken_on_purpose_is_found() {
    for (variant, message) in [
        (Variant::NoTries, "was refused 4 times"),
        (Variant::NothingStored, "refused after a success"),
        (Variant::NoAcceptance, "waits for nothing"),
        (Variant::AllOptional, "a parameter of the client's was altered"),
        (Variant::NoWait, "probe at once"),
        (Variant::NewNames, "waits on after its time"),
    ] {
        let violations: Vec<String> = (0..300).filter_map(|seed| run(seed, variant).err()).collect();
        assert!(
            violations.iter().any(|violation| violation.contains(message)),
            "{variant:?} is not found by {message:?}: {violations:#?}"
        );
    }
}
