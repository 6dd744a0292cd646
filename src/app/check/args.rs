//! The arguments of `check`.

use clap::Args;

/// What is checked.
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
#[derive(Args, Clone, Debug)]
pub struct CheckArguments {
    /// Buy one small edit, for a cent or a few, and prove the whole chain with it; shows the price and asks first
    #[arg(long)]
    pub live: bool,
    /// Model to buy from; may be given several times [default: the catalogue's default model]
    #[arg(long = "model", value_name = "MODEL", requires = "live")]
    pub models: Vec<String>,
    /// Buy without asking
    #[arg(long, requires = "live")]
    pub yes: bool,
    /// Buy nothing if it could cost more, in US dollars
    #[arg(long, value_name = "USD", default_value_t = 0.10)]
    pub max_usd: f64,
    /// Buy an edit with a mask, too
    #[arg(long, requires = "live")]
    pub mask: bool,
    /// Try every way of sending input pictures; each one that is accepted is a purchase
    #[arg(long, requires = "live")]
    pub all_input_methods: bool,
    /// Print the rows as JSON
    #[arg(long)]
    pub json: bool,
    /// First forget what was learned of the formats that the upstream accepts
    #[arg(long)]
    pub forget: bool,
    /// The ports are not looked at: a gateway may run there.
    #[arg(skip)]
    pub(crate) without_ports: bool,
}

impl CheckArguments {
    /// Returns the arguments of a live check with the default model that has been confirmed.
    pub(crate) fn live_once() -> Self {
        Self {
            live: true,
            models: Vec::new(),
            yes: true,
            max_usd: 0.0,
            mask: false,
            all_input_methods: false,
            json: false,
            forget: false,
            without_ports: true,
        }
    }
}
