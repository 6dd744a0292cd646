//! Input pictures that a client gave as addresses, fetched for a submit that sends their bytes.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryFutureExt};
use tokio::time::{Instant, timeout_at};
use url::Url;

use crate::model::picture::{FileKind, HEAD_BYTES, Orientation, PictureLimits, PictureProblem, Structure, read_full};
use crate::model::{ByteSource, Catalogue, Failure, Input, Picture, PictureRequest};
use crate::storage::spool::{Spool, SpoolError, Upload};
use crate::upstream::{FetchError, SubmitError, Upstream};

/// Fetches input pictures into the spool, with the limits of uploads.
#[derive(Debug)]
pub(in crate::engine) struct LinkFetcher {
    pub(in crate::engine) upstream: Arc<dyn Upstream>,
    pub(in crate::engine) catalogue: Arc<Catalogue>,
    pub(in crate::engine) spool: Spool,
    pub(in crate::engine) limits: PictureLimits,
    /// For all pictures of a request together.
    pub(in crate::engine) timeout: Duration,
}

/// The bytes of a picture as they arrive.
type Download = BoxStream<'static, Result<Bytes, FetchError>>;

/// Why a picture was not fetched.
#[derive(Debug, thiserror::Error)]
enum LinkError {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error("it did not arrive in time")]
    Late,
    #[error(transparent)]
    Picture(#[from] PictureProblem),
    /// The gateway has no space for it.
    #[error(transparent)]
    Spool(SpoolError),
}

impl From<SpoolError> for LinkError {
    fn from(error: SpoolError) -> Self {
        if let SpoolError::PartTooLarge { bytes_max } = error {
            return Self::Picture(PictureProblem::TooLarge { bytes_max });
        }
        Self::Spool(error)
    }
}

impl LinkFetcher {
    /// Returns a request with the pictures in place of their addresses.
    ///
    /// # Errors
    ///
    /// [`SubmitError::Rejected`] when a picture cannot be fetched or may not be sent on, and [`SubmitError::NotSent`]
    /// when the gateway has no space for it.
    pub(super) async fn fetch(&self, request: &PictureRequest) -> Result<PictureRequest, SubmitError> {
        let unknown = || SubmitError::Rejected(Failure::ModelUnavailable { message: request.model.to_string() });
        let parameters = &self.catalogue.find(&request.model).ok_or_else(unknown)?.parameters;
        let mut fetched = request.clone();
        let images = fetched.inputs.iter_mut().enumerate();
        let images = images.map(|(index, input)| (format!("image {}", index + 1), input, parameters.image_bytes_max));
        let mask = fetched.mask.iter_mut().map(|mask| ("the mask".to_owned(), mask, parameters.mask_bytes_max));
        let links = images.chain(mask).filter_map(|(name, input, bytes_max)| match input {
            Input::Link(address) => Some((name, address.clone(), input, bytes_max)),
            Input::Bytes { .. } => None,
        });
        let links: Vec<_> = links.collect();

        let deadline = Instant::now() + self.timeout;
        // Servers are reached at the same time, and pictures received one after the other, into one file.
        let opened = links.iter().map(|(_, address, ..)| {
            let opened = timeout_at(deadline, self.upstream.fetch_link(address)).map_err(|_| LinkError::Late);
            async { Ok(opened.await??) }
        });
        let opened: Vec<Result<Download, LinkError>> = join_all(opened).await;
        let no_space = |error: SpoolError| SubmitError::NotSent { message: error.to_string() };
        let mut upload = self.spool.upload(None).await.map_err(no_space)?;
        for ((name, address, input, bytes_max), download) in links.into_iter().zip(opened) {
            let received = async {
                timeout_at(deadline, receive(download?, &mut upload, bytes_max)).await.map_err(|_| LinkError::Late)?
            };
            let (picture, source) = received.await.map_err(|error| problem(&name, &address, error))?;
            if self.limits.known_only
                && picture.structure.format.is_none()
                && let FileKind::Convertible(format) =
                    FileKind::of(&read_full(&*source, 0, HEAD_BYTES).unwrap_or_default())
            {
                let kind = format.media_type();
                return Err(rejected(format!(
                    "{name} is {kind}, which is not converted where it is given as an address; send the picture itself"
                )));
            }
            self.limits.check(&picture, bytes_max).map_err(|error| problem(&name, &address, error.into()))?;
            *input = Input::Bytes { picture, source };
        }
        self.check_mask(&fetched, parameters.mask_bytes_max)?;
        Ok(fetched)
    }

    /// Checks a mask of which the picture or the mask itself was fetched.
    fn check_mask(&self, request: &PictureRequest, bytes_max: u64) -> Result<(), SubmitError> {
        let Some(Input::Bytes { picture: mask, .. }) = &request.mask else { return Ok(()) };
        let image = match request.inputs.first() {
            Some(Input::Bytes { picture, .. }) => Some(&picture.structure),
            Some(Input::Link(_)) | None => None,
        };
        let is_turned = |structure: &Structure| self.limits.known_only && structure.orientation != Orientation::UPRIGHT;
        for (name, structure) in [("image 1", image), ("the mask", Some(&mask.structure))] {
            if structure.is_some_and(is_turned) {
                return Err(rejected(format!(
                    "{name} carries a rotation (EXIF), which is not applied to a picture and a mask given as addresses; send \
                     the picture and the mask themselves, which are made upright"
                )));
            }
        }
        let checked = self.limits.check_mask(mask, image, bytes_max);
        checked.map_err(|problem| rejected(format!("the mask cannot be used: {problem}")))
    }
}

/// Receives a picture into the spool.
async fn receive(
    mut download: Download,
    upload: &mut Upload,
    bytes_max: u64,
) -> Result<(Picture, Arc<dyn ByteSource>), LinkError> {
    let mut writer = upload.picture(bytes_max);
    while let Some(chunk) = download.next().await {
        writer.write(chunk?).await?;
    }
    Ok(writer.finish().await?)
}

/// Names the picture and its host: the rest of the address may hold a secret of the client, and the details of a failed
/// connection say what the gateway can reach. Both stay out of the answer.
fn problem(name: &str, address: &str, error: LinkError) -> SubmitError {
    let host = Url::parse(address).ok().and_then(|url| url.host_str().map(str::to_owned));
    let host = host.unwrap_or_else(|| "its address".to_owned());
    tracing::warn!(picture = name, host, %error, "a picture that a client gave as an address was not fetched; nothing is bought");
    let reason = match error {
        LinkError::Spool(error) => return SubmitError::NotSent { message: format!("{name} has no space: {error}") },
        LinkError::Fetch(FetchError::Forbidden(_)) => "the gateway may not fetch from there".to_owned(),
        LinkError::Fetch(FetchError::Trouble(text)) if text.starts_with("HTTP ") => text,
        LinkError::Fetch(FetchError::Trouble(_)) => "no usable answer".to_owned(),
        LinkError::Late | LinkError::Picture(_) => error.to_string(),
    };
    rejected(format!("{name} could not be fetched from {host}: {reason}; send the picture itself"))
}

fn rejected(message: String) -> SubmitError {
    SubmitError::Rejected(Failure::LinkNotFetched { message, bought: false })
}

#[cfg(test)]
mod tests;
