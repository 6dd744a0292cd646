//! The names under which clients send pictures, and what a name says about its value.
//!
//! Letters of either case, white space around a name, and the separators `_`, `-` and `.` make no difference. A number at the
//! end or in brackets is the position of a picture: `image_1`, `image1`, `image.0`, `image-2`, `image[0]`.

use std::collections::BTreeMap;

use crate::model::Input;

/// The name of an image: what is left of it without separators and number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ImageName {
    stem: &'static str,
    number: Option<u32>,
}

impl ImageName {
    /// `image`, and `image[]`.
    pub(crate) const PLAIN: Self = Self { stem: "image", number: None };
}

/// What a name says about a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PictureName {
    Image(ImageName),
    Mask,
}

const IMAGES: [&str; 17] = [
    "image",
    "images",
    "imageurl",
    "imageurls",
    "inputimage",
    "inputimages",
    "inputimageurl",
    "inputimageurls",
    "referenceimage",
    "referenceimages",
    "referenceimageurl",
    "referenceimageurls",
    "initimage",
    "initimages",
    "initimageurl",
    "initimageurls",
    "imagesurl",
];
const MASKS: [&str; 5] = ["mask", "masks", "maskimage", "maskurl", "maskimageurl"];
/// Most digits of a number in a name.
const DIGITS_MAX: usize = 6;

/// Returns the picture that a name stands for.
pub(crate) fn picture_name(name: &str) -> Option<PictureName> {
    let (before, bracket) = name.trim().split_once('[').unwrap_or((name.trim(), ""));
    let stem = before.trim_end_matches(|c: char| c.is_ascii_digit());
    let digits = &before[stem.len()..];
    let in_bracket = bracket.split(']').next().unwrap_or_default().trim();
    let number = if digits.is_empty() { in_bracket } else { digits };
    let is_number = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
    if is_number && number.len() > DIGITS_MAX {
        return None;
    }
    let stem = plain(stem);
    let find = |known: &[&'static str]| known.iter().copied().find(|known| *known == stem);
    if let Some(stem) = find(&IMAGES) {
        return Some(PictureName::Image(ImageName { stem, number: number.parse().ok() }));
    }
    find(&MASKS).map(|_| PictureName::Mask)
}

/// Returns a name in lower case, without separators.
fn plain(name: &str) -> String {
    name.chars().filter(|c| !matches!(c, '_' | '-' | '.' | ' ')).flat_map(char::to_lowercase).collect()
}

/// Returns the known name that is nearest to an unknown one.
pub(crate) fn nearest_known(name: &str) -> &'static str {
    if plain(name).contains("mask") { "mask" } else { "image" }
}

/// Parts of names whose values are pictures.
const PICTURE_STEMS: [&str; 9] =
    ["image", "img", "photo", "picture", "mask", "thumbnail", "screenshot", "base64", "b64"];
/// Words of names whose values are pictures; as part of another word they say nothing (`topic`, `profile`, `prefer`).
const PICTURE_WORDS: [&str; 15] = [
    "file",
    "files",
    "init",
    "input",
    "inputs",
    "pic",
    "pics",
    "ref",
    "refs",
    "reference",
    "references",
    "source",
    "sources",
    "src",
    "art",
];

/// Words that alone name a file of any kind; an address under them may be a page.
const FILE_WORDS: [&str; 6] = ["file", "input", "ref", "reference", "source", "src"];
/// Parts and words of names of addresses that lead to no picture.
const PAGE_STEMS: [&str; 3] = ["webhook", "callback", "notif"];
const PAGE_WORDS: [&str; 7] = ["hook", "notify", "site", "website", "page", "homepage", "referer"];

/// What the names around a value say of an address in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum FieldHint {
    /// It belongs to the client's notes, which no task reads.
    Metadata,
    /// Nothing: an address is a picture where it ends like one.
    Unclear,
    /// It may be a file of any kind.
    File,
    Picture,
}

impl FieldHint {
    /// Returns what the name of a field of the body says.
    pub(crate) fn of(name: &str) -> Self {
        let is_metadata = plain(name.split(['[', '.']).next().unwrap_or(name)) == "metadata";
        if is_metadata { Self::Metadata } else { Self::Unclear.within(name) }
    }

    /// Returns what is known of a member under this name of a value of which this is known.
    pub(crate) fn within(self, name: &str) -> Self {
        if self == Self::Metadata {
            return self;
        }
        let (lower, words) = (plain(name), words(name));
        let has_word = |known: &[&str]| words.iter().any(|word| known.contains(&word.as_str()));
        if PAGE_STEMS.iter().any(|stem| lower.contains(stem)) || has_word(&PAGE_WORDS) {
            return Self::Unclear;
        }
        let own = if FILE_WORDS.contains(&lower.as_str()) {
            Self::File
        } else if PICTURE_STEMS.iter().any(|stem| lower.contains(stem)) || has_word(&PICTURE_WORDS) {
            Self::Picture
        } else {
            Self::Unclear
        };
        self.max(own)
    }
}

/// Splits a name at separators, digits and capital letters.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut previous_is_lower = false;
    for c in name.chars() {
        if !c.is_alphabetic() || (c.is_uppercase() && previous_is_lower) {
            words.push(String::new());
        }
        if c.is_alphabetic()
            && let Some(word) = words.last_mut()
        {
            word.extend(c.to_lowercase());
        }
        previous_is_lower = c.is_lowercase();
    }
    words
}

/// Puts images into their order: that of the client, but images whose names differ in their number alone change places among
/// themselves until their numbers ascend. `image_2`, `image`, `image_1` becomes `image_1`, `image`, `image_2`.
#[derive(Debug, Default)]
pub(crate) struct ImageOrdering {
    names: Vec<ImageName>,
    /// Entries of lists that are no picture.
    skipped: usize,
    empty: Vec<EmptyImage>,
}

/// A field in the place of a picture that holds none.
#[derive(Debug)]
struct EmptyImage {
    name: ImageName,
    sent: String,
    /// Pictures before it.
    position: usize,
}

impl ImageOrdering {
    /// Adds an image.
    pub(crate) fn insert(&mut self, images: &mut Vec<Input>, name: ImageName, image: Input) {
        images.push(image);
        self.names.push(name);
        let Some(number) = name.number else { return };
        let mut last = self.names.len() - 1;
        for before in (0..last).rev() {
            let known = self.names[before];
            if known.stem == name.stem && known.number.is_some_and(|known| known > number) {
                self.names.swap(before, last);
                images.swap(before, last);
                last = before;
            }
        }
    }

    /// Counts an entry of a list that is no picture.
    pub(crate) fn skip(&mut self) {
        self.skipped += 1;
    }

    /// Adds a field that holds no picture, by its name as it was `sent`.
    pub(crate) fn insert_empty(&mut self, name: ImageName, sent: &str) {
        self.empty.push(EmptyImage { name, sent: sent.to_owned(), position: self.names.len() });
    }

    /// Returns the names of fields that hold no picture although one of the same stem follows, by its number or, without
    /// numbers, between others. The prompt may speak of "the third picture"; empty fields at the end change nothing.
    pub(crate) fn gaps(&self) -> impl Iterator<Item = &str> {
        let same_stem = |empty: &EmptyImage, name: &&ImageName| name.stem == empty.name.stem;
        let is_gap = move |empty: &&EmptyImage| {
            if let Some(number) = empty.name.number {
                let mut numbers =
                    self.names.iter().filter(|name| same_stem(empty, name)).filter_map(|name| name.number);
                return numbers.clone().all(|filled| filled != number) && numbers.any(|filled| filled > number);
            }
            let (before, behind) = self.names.split_at(empty.position.min(self.names.len()));
            [before, behind].into_iter().all(|names| names.iter().any(|name| same_stem(empty, &name)))
        };
        self.empty.iter().filter(is_gap).map(|empty| empty.sent.as_str())
    }

    /// Removes pictures that came twice because several names list the same ones; repeats under one name stay.
    pub(crate) fn remove_copies(&mut self, images: &mut Vec<Input>) {
        if self.names.windows(2).all(|names| names[0].stem == names[1].stem) {
            return;
        }
        let mut lists: BTreeMap<&'static str, Vec<Vec<u8>>> = BTreeMap::new();
        let mut stems = Vec::new();
        for (name, image) in self.names.iter().zip(&*images) {
            if !stems.contains(&name.stem) {
                stems.push(name.stem);
            }
            lists.entry(name.stem).or_default().push(image.fingerprint_bytes().into_owned());
        }
        let is_copy = |&(position, stem): &(usize, &&'static str)| {
            stems[..position].iter().any(|before| lists.get(before) == lists.get(*stem))
        };
        let copies: Vec<&'static str> = stems.iter().enumerate().filter(is_copy).map(|(_, stem)| *stem).collect();
        let mut names = self.names.iter();
        images.retain(|_| names.next().is_none_or(|name| !copies.contains(&name.stem)));
        self.names.retain(|name| !copies.contains(&name.stem));
    }

    /// Returns the number of images so far, with entries of lists that are none.
    pub(crate) fn count(&self) -> usize {
        self.names.len() + self.skipped
    }

    /// Returns the name of the next image in error messages.
    pub(crate) fn next_name(&self) -> String {
        image_name(self.count())
    }
}

/// Returns the name of an image in error messages.
pub(crate) fn image_name(index: usize) -> String {
    if index == 0 { "image".to_owned() } else { format!("image[{index}]") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(name: &str) -> Option<(&'static str, Option<u32>)> {
        match picture_name(name)? {
            PictureName::Image(ImageName { stem, number }) => Some((stem, number)),
            PictureName::Mask => None,
        }
    }

    #[test]
    fn images_and_masks_have_many_names() {
        for (name, number) in [
            ("image", None),
            ("image[]", None),
            ("image[0]", Some(0)),
            ("image[15]", Some(15)),
            ("image_1", Some(1)),
            ("image1", Some(1)),
            ("image.0", Some(0)),
            ("image-2", Some(2)),
            ("image ", None),
            ("\timage\r", None),
            ("Image", None),
            ("IMAGE_2", Some(2)),
            ("image [3]", Some(3)),
            ("image[ 4 ]", Some(4)),
            ("image[0][image_url]", Some(0)),
        ] {
            assert_eq!(image(name), Some(("image", number)), "{name:?}");
        }
        for name in [
            "images",
            "images[]",
            "image_url",
            "image_urls",
            "imageUrl",
            "imageURLs",
            "input_image",
            "inputImages",
            "input_image_2",
            "reference_image",
            "reference_images",
            "referenceImage1",
            "init_image",
            "initImage",
            "Image-URL",
            "reference_image_url",
            "init_image_url",
        ] {
            assert!(image(name).is_some(), "{name:?}");
        }
        for name in [
            "mask",
            "masks",
            "mask[]",
            "Mask",
            "mask_image",
            "mask_url",
            "maskImage",
            "MASK-URL",
            "mask_1",
            "maskImageUrl",
            " mask",
        ] {
            assert_eq!(picture_name(name), Some(PictureName::Mask), "{name:?}");
        }
        for name in [
            "imagery",
            "image2image",
            "gpt-image-2",
            "my_image",
            "imagesize",
            "unmask",
            "mask_blur",
            "prompt",
            "",
            "[image]",
            "1",
            "image_12345678901",
            "image_config",
        ] {
            assert_eq!(picture_name(name), None, "{name:?}");
        }
    }

    #[test]
    fn names_say_whether_an_address_is_a_picture() {
        for (hint, names) in [
            (
                FieldHint::Picture,
                &[
                    "my_image",
                    "imgUrl",
                    "user_photo",
                    "picture",
                    "pic",
                    "faceMask",
                    "fileUrl",
                    "init",
                    "style_ref",
                    "sourceUrl",
                    "control_input",
                    "references",
                    "base64",
                    "b64_image",
                ][..],
            ),
            (FieldHint::File, &["file", "File", "input", "ref", "reference", "source", "src", "SOURCE"]),
            (
                FieldHint::Unclear,
                &[
                    "topic",
                    "profile_url",
                    "prefer",
                    "referrer",
                    "resource",
                    "callback_url",
                    "website",
                    "page",
                    "initial",
                    "start",
                    "",
                    "7",
                    "image_webhook_url",
                    "imageWebhookUrl",
                    "file_callback_url",
                    "picture-callback",
                    "image_notify_url",
                    "notification_source",
                    "source_page",
                    "sourceSite",
                    "input_web_hook",
                    "ref_homepage",
                ],
            ),
            (FieldHint::Metadata, &["metadata", "Metadata", "metadata[logo]", "metadata.image", "meta_data"]),
        ] {
            for name in names {
                assert_eq!(FieldHint::of(name), hint, "{name:?}");
            }
        }
        for (outer, name, hint) in [
            (FieldHint::Metadata, "image", FieldHint::Metadata),
            (FieldHint::Metadata, "callback", FieldHint::Metadata),
            (FieldHint::Picture, "url", FieldHint::Picture),
            (FieldHint::Picture, "source", FieldHint::Picture),
            (FieldHint::Picture, "webhook", FieldHint::Unclear),
            (FieldHint::File, "url", FieldHint::File),
            (FieldHint::File, "image_url", FieldHint::Picture),
            (FieldHint::Unclear, "metadata", FieldHint::Unclear),
        ] {
            assert_eq!(outer.within(name), hint, "{outer:?} {name}");
        }
        assert_eq!([nearest_known("faceMask"), nearest_known("picture_2")], ["mask", "image"]);
    }

    /// Reads fields from `image_1=a image_2=`, and returns the pictures that are left, and the gaps.
    fn ordered(fields: &str) -> (String, String) {
        let (mut order, mut images) = (ImageOrdering::default(), Vec::new());
        for field in fields.split(' ') {
            let (name, link) = field.split_once('=').unwrap();
            let Some(PictureName::Image(image)) = picture_name(name) else { panic!("{name}") };
            if link.is_empty() {
                order.insert_empty(image, name);
            } else {
                order.insert(&mut images, image, Input::Link(link.to_owned()));
            }
        }
        order.remove_copies(&mut images);
        let links: Vec<String> = images
            .iter()
            .map(|image| String::from_utf8_lossy(&image.fingerprint_bytes()).replace("link:", ""))
            .collect();
        assert_eq!(links.len(), order.count());
        (links.join(" "), order.gaps().collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn empty_fields_between_pictures_are_gaps() {
        for (fields, gaps) in [
            ("image_1=a image_2= image_3=c", "image_2"),
            ("image_1=a image_2= image_3= image_4=d", "image_2 image_3"),
            ("image_3=c image_2= image_1=a", "image_2"),
            ("image[0]= image[1]=b", "image[0]"),
            ("image[]=a image[]= image[]=c", "image[]"),
            ("image=a image= image=c", "image"),
            ("image_1=a image_2= image_3=", ""),
            ("image[]=a image[]= image[]=", ""),
            ("image[]= image[]=a", ""),
            ("image_1= image_1=a image_2= image_2=b", ""),
            ("image_1=a image_2= reference_image_3=c", ""),
            ("image= image_url=a", ""),
            ("image_1=a image= image_2=b", "image"),
            ("image_2=", ""),
        ] {
            assert_eq!(ordered(fields).1, gaps, "{fields}");
        }
    }

    #[test]
    fn lists_of_the_same_pictures_are_one_and_repeats_stay() {
        for (fields, left) in [
            ("image=a images=a", "a"),
            ("image=a image_url=a", "a"),
            ("image=a images=a image_url=a", "a"),
            ("image_1=a image_2=b images[0]=a images[1]=b", "a b"),
            ("image=a images=a image=b images=b", "a b"),
            ("input_image=a reference_image=a", "a"),
            ("image=a image=a", "a a"),
            ("image[]=a image[]=a images[]=a images[]=a", "a a"),
            ("image=a images=a images=a", "a a a"),
            ("image=a images=b", "a b"),
            ("image=a images=b images=a", "a b a"),
            ("image=a images=a reference_image=b", "a b"),
            ("image_1=a image_2=b images=b images=a", "a b b a"),
        ] {
            assert_eq!(ordered(fields).0, left, "{fields}");
        }
    }

    #[test]
    fn numbered_images_are_sorted_in_the_places_that_they_have() {
        let sorted = |names: &[&str]| {
            let (mut order, mut images) = (ImageOrdering::default(), Vec::new());
            for name in names {
                let Some(PictureName::Image(image)) = picture_name(name) else { panic!("{name}") };
                order.insert(&mut images, image, Input::Link((*name).to_owned()));
            }
            let links = images.into_iter().map(|image| match image {
                Input::Link(link) => link,
                Input::Bytes { .. } => String::new(),
            });
            links.collect::<Vec<_>>().join(" ")
        };
        for (names, expected) in [
            ("image image", "image image"),
            ("image_2 image image_1", "image_1 image image_2"),
            ("image[2] image[0] image[1]", "image[0] image[1] image[2]"),
            ("image10 image9 image", "image9 image10 image"),
            ("image image_3 image_2 image_1", "image image_1 image_2 image_3"),
            ("image_1 image_2 reference_image_1", "image_1 image_2 reference_image_1"),
            (
                "reference_image_2 image_2 reference_image_1 image_1",
                "reference_image_1 image_1 reference_image_2 image_2",
            ),
            ("image[1] image[1] image[0]", "image[0] image[1] image[1]"),
            ("image_url images image", "image_url images image"),
            ("image[] image[1] image[] image[0]", "image[] image[0] image[] image[1]"),
        ] {
            let names: Vec<&str> = names.split(' ').collect();
            assert_eq!(sorted(&names), expected, "{names:?}");
        }
    }
}
