//! Whether an account can buy, as far as that is known without buying: by free questions, and by what purchases have shown.

/// What is known of an account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Readiness {
    /// Nothing was asked yet, or no answer has come yet: it is taken for ready.
    #[default]
    Unasked,
    /// The upstream has answered under its key.
    Ready,
    /// The upstream has answered and has said nothing of the key: it is taken for ready.
    Unclear,
    KeyRefused,
    /// The network edge in front of the upstream refuses this machine.
    EdgeRefused,
    /// Several free questions in a row got no answer.
    Unreachable,
}

impl Readiness {
    /// Returns why nothing can be bought.
    pub(crate) fn obstacle(self) -> Option<Obstacle> {
        match self {
            Self::Unasked | Self::Ready | Self::Unclear => None,
            Self::KeyRefused => Some(Obstacle::KeyRefused),
            Self::EdgeRefused => Some(Obstacle::EdgeRefused),
            Self::Unreachable => Some(Obstacle::Unreachable),
        }
    }
}

/// Why an account cannot buy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Obstacle {
    /// The operator has paused it.
    Paused,
    KeyRefused,
    EdgeRefused,
    Unreachable,
    BalanceExhausted,
}

impl Obstacle {
    pub(in crate::budget) const ALL: [Self; 5] =
        [Self::Paused, Self::KeyRefused, Self::EdgeRefused, Self::Unreachable, Self::BalanceExhausted];

    /// Returns the label in metrics.
    pub(in crate::budget) fn name(self) -> &'static str {
        match self {
            Self::Paused => "paused",
            Self::KeyRefused => "key_refused",
            Self::EdgeRefused => "edge_refused",
            Self::Unreachable => "unreachable",
            Self::BalanceExhausted => "balance_exhausted",
        }
    }

    /// Returns what people read, with what to do.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Paused => "the operator has paused it; resume it with: gptproto-gateway accounts resume",
            Self::KeyRefused => "the upstream refuses the key; replace it",
            Self::EdgeRefused => {
                "the network edge before the upstream refuses this machine's address; change the exit address or the proxy"
            }
            Self::Unreachable => {
                "the upstream cannot be reached; check the network, upstream.base_url and upstream.proxy"
            }
            Self::BalanceExhausted => "the account has no credit left at the upstream; add credit",
        }
    }
}

/// What is known of an account, and whether that is to be asked again.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::budget) struct KnownReadiness {
    pub(in crate::budget) readiness: Readiness,
    /// A purchase has shown something else than the last question.
    pub(in crate::budget) in_doubt: bool,
}

impl KnownReadiness {
    /// Records that the upstream accepted a submit.
    pub(in crate::budget) fn on_accepted(&mut self) {
        *self = Self { readiness: Readiness::Ready, in_doubt: false };
    }

    /// Records that the upstream refused the key of a submit.
    pub(in crate::budget) fn on_key_refused(&mut self) {
        *self = Self { readiness: Readiness::KeyRefused, in_doubt: true };
    }

    /// Records that a submit did not reach the upstream, which alone proves nothing.
    pub(in crate::budget) fn on_not_sent(&mut self) {
        self.in_doubt = true;
    }
}
