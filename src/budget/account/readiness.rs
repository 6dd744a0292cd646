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
    /// Returns why nothing can be bought, and what to do.
    pub(crate) fn obstacle(self) -> Option<&'static str> {
        match self {
            Self::Unasked | Self::Ready | Self::Unclear => None,
            Self::KeyRefused => Some("the upstream refuses the key; replace it"),
            Self::EdgeRefused => Some(
                "the network edge before the upstream refuses this machine's address; change the exit address or the proxy",
            ),
            Self::Unreachable => {
                Some("the upstream cannot be reached; check the network, upstream.base_url and upstream.proxy")
            }
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
