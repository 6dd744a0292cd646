//! Checks the container of a HEIC before the decoder sees it, because the decoder follows what the file says without limits of
//! its own: endless references, overlays of any number of pictures, tiles far larger than the picture, extents without bytes.
//!
//! Wanted:
//! - Memory and time are bounded by the limit of pixels and by the length of the file, whatever the file says.
//! - What phones and libheif write passes: one coded picture or a grid of them, each with an alpha plane or without.
//! - References, item data and parameter sets are read by the decoder's own functions, so both see the same file.

use std::collections::HashSet;

use heifer::heifer_hevc_dec::nal::{NalUnit, split_annex_b};
use heifer::heifer_hevc_dec::params::ParameterSets;
use heifer::heifer_isobmff::boxes::{ConstructionMethod, Property, parse_item_infos};
use heifer::heifer_isobmff::{BoxIter, HeifFile, ItemId};

/// Largest `meta` box, in bytes. Phones write about 5 KB; most of the rest is for a colour profile.
const META_BYTES_MAX: usize = 256 << 10;
const ITEMS_MAX: usize = 2_000;
const TILES_MAX: usize = 1_024;
/// Coded pictures of all kinds: tiles with their alpha planes, and a few more.
const CODED_MAX: usize = 2 * TILES_MAX + 16;
/// Parameters of a coded picture, in bytes. Encoders write some hundreds, and a message of about 2 KB.
const PARAMETERS_BYTES_MAX: usize = 16 << 10;
/// Shortest side of a tile, in pixels; the format itself asks for 64.
const TILE_SIDE_MIN: u32 = 16;
/// Units of one coded picture: parameter sets, slices and messages.
const UNITS_MAX: usize = 2_048;
/// Longest side of a coded picture, in pixels.
const SIDE_MAX: u32 = 1 << 16;
/// What a side of a coded picture may have besides the pixels that are shown.
const PADDING_MAX: u32 = 128;
/// Types of alpha planes.
const ALPHA: [&str; 2] = ["urn:mpeg:hevc:2015:auxid:1", "urn:mpeg:mpegB:cicp:systems:auxiliary:alpha"];
/// Crops, rotations and reflections of one picture, each of which copies it.
const TRANSFORMS_MAX: usize = 3;

/// Why a HEIC is not decoded.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ContainerProblem {
    #[error("{0}")]
    Broken(String),
    /// The text ends a sentence that begins with "a HEIC".
    #[error("it is a HEIC {0}")]
    Rare(&'static str),
    #[error("{width}x{height} pixels are more than allowed")]
    TooManyPixels { width: u32, height: u32 },
}

use ContainerProblem::{Broken, Rare, TooManyPixels};

/// What a checked HEIC holds.
#[derive(Debug)]
pub(super) struct Container {
    /// Of the primary picture, before it is turned.
    pub(super) dimensions: (u32, u32),
    /// Pixels of the largest picture that is decoded or put together.
    pub(super) pixels: u64,
    pub(super) profile: Option<Vec<u8>>,
}

fn broken(error: impl std::fmt::Display) -> ContainerProblem {
    Broken(error.to_string())
}

/// Checks a HEIC.
///
/// # Errors
///
/// [`ContainerProblem`], before any pixel is decoded.
pub(super) fn check(bytes: &[u8], pixels_max: u64) -> Result<Container, ContainerProblem> {
    check_boxes(bytes)?;
    let file = HeifFile::parse(bytes).map_err(broken)?;
    let is_indirect = |method| matches!(method, ConstructionMethod::Item);
    if file.items.iter().any(|item| item.location.as_ref().is_some_and(|at| is_indirect(at.construction_method))) {
        return Err(Rare("whose pictures are made of parts of others"));
    }
    let primary = file.primary_id;
    let dimensions = file.image_size(primary).map_err(broken)?.ok_or_else(|| broken("no size"))?;
    let (width, height) = dimensions;
    if pixels_of(width, height) > pixels_max {
        return Err(TooManyPixels { width, height });
    }
    let mut walk =
        Walk { file: &file, bytes: bytes.len(), pixels_max, pictures: 0, coded: 0, work: 0, largest: 0, data: 0 };
    walk.picture(primary, false)?;
    // A tile has no tiles, so this ends.
    let profile = file.icc_profile(primary).ok().flatten().map(<[u8]>::to_vec);
    Ok(Container { dimensions, pixels: walk.largest, profile })
}

/// Checks what the parser of the container takes memory or time for.
fn check_boxes(bytes: &[u8]) -> Result<(), ContainerProblem> {
    for found in BoxIter::new(bytes) {
        let found = found.map_err(broken)?;
        if found.header.box_type.0 != *b"meta" {
            continue;
        }
        if found.content.len() > META_BYTES_MAX {
            return Err(Rare("with unusually much metadata"));
        }
        // An entry of `iinf` has this text, so there are no more entries than texts.
        if found.content.windows(4).filter(|text| *text == b"infe").count() > ITEMS_MAX {
            return Err(Rare("of unusually many pictures"));
        }
        for found in BoxIter::new(found.content.get(4..).unwrap_or_default()) {
            let found = found.map_err(broken)?;
            match &found.header.box_type.0 {
                b"iinf" => {
                    let mut ids = HashSet::new();
                    if !parse_item_infos(found.content).map_err(broken)?.iter().all(|item| ids.insert(item.id)) {
                        return Err(broken("two items have the same number"));
                    }
                }
                // Sizes of an offset, of a length, and of an index: with none of them, any number of extents fits into no bytes.
                b"iloc" => {
                    let (sizes, index) = (found.content.get(4).copied(), found.content.get(5).copied());
                    let has_index = found.content.first() != Some(&0) && index.is_some_and(|sizes| sizes & 0x0f != 0);
                    if sizes.is_some_and(|sizes| sizes == 0) && !has_index {
                        return Err(broken("places of items have no bytes"));
                    }
                }
                _ => {}
            }
        }
    }
    Ok(())
}

fn pixels_of(width: u32, height: u32) -> u64 {
    u64::from(width) * u64::from(height)
}

/// One coded picture.
struct Coded {
    width: u32,
    height: u32,
    slices: u64,
}

/// Follows the pictures that the decoder decodes.
struct Walk<'a> {
    file: &'a HeifFile<'a>,
    bytes: usize,
    pixels_max: u64,
    /// Coded pictures.
    pictures: usize,
    /// Pixels of all coded pictures.
    coded: u64,
    /// Pixels of all coded pictures, once for each slice: the decoder does not look whether slices lie on each other.
    work: u64,
    largest: u64,
    /// Bytes of all coded pictures.
    data: usize,
}

impl Walk<'_> {
    fn picture(&mut self, id: ItemId, is_alpha: bool) -> Result<(), ContainerProblem> {
        match &self.file.item(id).map_err(broken)?.item_type.0 {
            b"hvc1" => self.coded(id, is_alpha),
            b"grid" => self.grid(id, is_alpha),
            b"iovl" => Err(Rare("that is an overlay of pictures")),
            b"iden" => Err(Rare("that is derived of another picture")),
            _ => Err(Rare("whose picture is not coded as usual")),
        }
    }

    fn grid(&mut self, id: ItemId, is_alpha: bool) -> Result<(), ContainerProblem> {
        self.check_transforms(id)?;
        let grid = self.file.grid(id).map_err(broken)?;
        let tiles = self.file.referenced_items(id, b"dimg");
        if tiles.len() > TILES_MAX {
            return Err(Rare("of unusually many tiles"));
        }
        let mut distinct = HashSet::new();
        if tiles.len() != usize::from(grid.rows) * usize::from(grid.columns)
            || !tiles.iter().all(|id| distinct.insert(id))
        {
            return Err(broken("tiles are missing, or one is used twice"));
        }
        let size = |id| self.file.image_size(id).map_err(broken)?.ok_or_else(|| broken("a tile has no size"));
        let (width, height) = size(tiles[0])?;
        let is_covered = pixels_of(width, u32::from(grid.columns)) >= u64::from(grid.output_width)
            && pixels_of(height, u32::from(grid.rows)) >= u64::from(grid.output_height);
        if width < TILE_SIDE_MIN || height < TILE_SIDE_MIN || !is_covered {
            return Err(broken("tiles are too small"));
        }
        let (output_width, output_height) = (grid.output_width, grid.output_height);
        let pixels = pixels_of(output_width, output_height);
        if pixels > self.pixels_max {
            return Err(TooManyPixels { width: output_width, height: output_height });
        }
        self.largest = self.largest.max(pixels);
        for &tile in tiles {
            if self.file.item(tile).map_err(broken)?.item_type.0 != *b"hvc1" {
                return Err(Rare("whose tiles are not coded as usual"));
            }
            if size(tile)? != (width, height) {
                return Err(broken("tiles differ in size"));
            }
            self.coded(tile, false)?;
        }
        if let Some(alpha) = self.alpha(id, is_alpha)? {
            self.picture(alpha, true)?;
        }
        Ok(())
    }

    fn coded(&mut self, id: ItemId, is_alpha: bool) -> Result<(), ContainerProblem> {
        self.pictures += 1;
        if self.pictures > CODED_MAX {
            return Err(Rare("of unusually many pictures"));
        }
        self.check_transforms(id)?;
        let alpha = self.alpha(id, is_alpha)?;
        if !self.file.referenced_items(id, b"dimg").is_empty() {
            return Err(broken("a coded picture has tiles"));
        }
        let (shown_width, shown_height) =
            self.file.image_size(id).map_err(broken)?.ok_or_else(|| broken("a picture has no size"))?;
        let Coded { width, height, slices } = self.coded_picture(id)?;
        let is_padded = |coded: u32, shown: u32| coded <= shown.saturating_add(PADDING_MAX);
        if !is_padded(width, shown_width) || !is_padded(height, shown_height) {
            return Err(Rare("that shows a small part of its pixels"));
        }
        let pixels = pixels_of(width, height);
        self.largest = self.largest.max(pixels);
        self.coded += pixels;
        self.work += pixels * slices;
        let cropped = pixels_of(width.saturating_sub(PADDING_MAX), height.saturating_sub(PADDING_MAX));
        if cropped > self.pixels_max {
            return Err(TooManyPixels { width, height });
        }
        // Tiles reach beyond the edge, and a picture may have an alpha plane of its size.
        if self.coded > self.pixels_max.saturating_mul(2) {
            return Err(Rare("whose tiles together are much larger than the limit of pixels"));
        }
        if self.work > self.pixels_max.saturating_mul(8) {
            return Err(Rare("of unusually many slices"));
        }
        if let Some(alpha) = alpha {
            if self.file.item(alpha).map_err(broken)?.item_type.0 != *b"hvc1" {
                return Err(Rare("whose alpha plane is not coded as usual"));
            }
            self.coded(alpha, true)?;
        }
        Ok(())
    }

    /// Returns the largest size that the decoder may take a coded picture for.
    fn coded_picture(&mut self, id: ItemId) -> Result<Coded, ContainerProblem> {
        let config = self.file.hevc_config(id).map_err(broken)?.ok_or_else(|| broken("no parameters"))?;
        let data = self.file.item_data(id).map_err(broken)?;
        self.data = self.data.saturating_add(data.len());
        if self.data > self.bytes {
            return Err(broken("pictures share their bytes"));
        }
        if config.nal_units.iter().map(Vec::len).sum::<usize>() > PARAMETERS_BYTES_MAX {
            return Err(Rare("of unusually long parameters"));
        }
        let prefix = usize::from(config.nal_length_size);
        let (mut rest, mut units): (&[u8], _) = (&data, config.nal_units.len());
        while !rest.is_empty() && units <= UNITS_MAX {
            let (length, tail) = rest.split_at_checked(prefix).ok_or_else(|| broken("a unit is cut"))?;
            let length = length.iter().fold(0, |length, byte| (length << 8) | usize::from(*byte));
            rest = tail.get(length..).ok_or_else(|| broken("a unit is cut"))?;
            units += 1;
        }
        // The decoder finds further units within units, where one has the mark of a beginning.
        let stream = if units > UNITS_MAX { Vec::new() } else { self.file.hevc_bitstream(id).map_err(broken)? };
        if units.max(stream.windows(3).filter(|bytes| *bytes == [0, 0, 1]).count()) > UNITS_MAX {
            return Err(Rare("of unusually many parts"));
        }
        let mut sets = ParameterSets::default();
        let (mut width, mut height, mut slices) = (0, 0, 0);
        for unit in split_annex_b(&stream) {
            let unit = NalUnit::parse(unit).map_err(broken)?;
            if unit.header.unit_type.is_slice() {
                slices += 1;
            }
            // Later parameters are those of further pictures, which are not decoded.
            if slices > 0 {
                continue;
            }
            sets.add(&unit).map_err(broken)?;
            for set in sets.sps.iter().flatten() {
                width = set.pic_width_in_luma_samples.max(width);
                height = set.pic_height_in_luma_samples.max(height);
            }
            // Before the next set is read, because that may take memory for each column of this size.
            if width > SIDE_MAX || height > SIDE_MAX {
                return Err(TooManyPixels { width, height });
            }
        }
        if width == 0 {
            return Err(broken("its size is missing"));
        }
        Ok(Coded { width, height, slices })
    }

    /// Returns the alpha plane of a picture, which must not be such a plane itself. Of several the decoder takes the first.
    fn alpha(&self, id: ItemId, is_alpha: bool) -> Result<Option<ItemId>, ContainerProblem> {
        let is_plane = |id: &ItemId| {
            let mut properties = self.file.item_properties(*id).ok().into_iter().flatten();
            properties
                .any(|property| matches!(property, Property::AuxiliaryType(kind) if ALPHA.contains(&kind.as_str())))
        };
        let alpha = self.file.referencing_items(id, b"auxl").into_iter().find(is_plane);
        if is_alpha && alpha.is_some() {
            return Err(broken("an alpha plane has an alpha plane"));
        }
        Ok(alpha)
    }

    fn check_transforms(&self, id: ItemId) -> Result<(), ContainerProblem> {
        let is_transform = |property: &&Property| {
            matches!(property, Property::CleanAperture { .. } | Property::Rotation(_) | Property::Mirror(_))
        };
        let transforms = self.file.item_properties(id).map_err(broken)?.filter(is_transform).count();
        if transforms > TRANSFORMS_MAX {
            return Err(Rare("that is turned more than once"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
