use super::*;

const PLAIN: &[u8] = include_bytes!("../../../../../../tests/gateway/samples/plain.heic");

/// An item of a HEIC: its type, its data, and the numbers of its properties, counted from 1.
#[derive(Clone)]
struct Part {
    kind: [u8; 4],
    data: Vec<u8>,
    properties: Vec<u8>,
}

/// What a HEIC is built of. Items are counted from 1, and the first is the primary one.
#[derive(Clone, Default)]
struct Recipe {
    parts: Vec<Part>,
    properties: Vec<Vec<u8>>,
    references: Vec<([u8; 4], u16, Vec<u16>)>,
    /// Boxes of `meta` besides the usual ones.
    extra: Vec<u8>,
    /// The length of every tile, all of which begin where the first does.
    lengths: Option<u32>,
}

fn boxed(kind: [u8; 4], content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len() + 8).unwrap();
    [&length.to_be_bytes()[..], &kind[..], content].concat()
}

fn short(n: usize) -> [u8; 2] {
    u16::try_from(n).unwrap().to_be_bytes()
}

fn size(width: u32, height: u32) -> Vec<u8> {
    boxed(*b"ispe", &[&[0; 4][..], &width.to_be_bytes(), &height.to_be_bytes()].concat())
}

impl Recipe {
    fn build(&self) -> Vec<u8> {
        let Self { parts, properties, references, extra, lengths } = self;
        let mut infos = [&[0; 4][..], &short(parts.len())].concat();
        let mut places = [&[1, 0, 0, 0, 0x44, 0][..], &short(parts.len())].concat();
        let mut owned = [&[0; 4][..], &u32::try_from(parts.len()).unwrap().to_be_bytes()].concat();
        let mut data = Vec::new();
        for (index, part) in parts.iter().enumerate() {
            let id = short(index + 1);
            infos.extend(boxed(*b"infe", &[&[2, 0, 0, 0][..], &id, &[0, 0], &part.kind, &[0]].concat()));
            let (start, own) = (u32::try_from(data.len()).unwrap(), u32::try_from(part.data.len()).unwrap());
            let first = u32::try_from(parts[0].data.len()).unwrap();
            let (offset, length) = lengths.filter(|_| index > 0).map_or((start, own), |length| (first, length));
            places.extend([&id[..], &[0, 1, 0, 0, 0, 1], &offset.to_be_bytes(), &length.to_be_bytes()].concat());
            data.extend(&part.data);
            owned.extend([&id[..], &[u8::try_from(part.properties.len()).unwrap()], &part.properties].concat());
        }
        let mut links = vec![0; 4];
        for (kind, from, to) in references {
            let to: Vec<u8> = to.iter().flat_map(|id| id.to_be_bytes()).collect();
            links.extend(boxed(*kind, &[&from.to_be_bytes()[..], &short(to.len() / 2), &to].concat()));
        }
        let properties = [boxed(*b"ipco", &properties.concat()), boxed(*b"ipma", &owned)].concat();
        let meta = [
            vec![0; 4],
            boxed(*b"hdlr", &[&[0; 8][..], b"pict", &[0; 13]].concat()),
            boxed(*b"pitm", &[0, 0, 0, 0, 0, 1]),
            boxed(*b"iinf", &infos),
            boxed(*b"iloc", &places),
            boxed(*b"iprp", &properties),
            boxed(*b"iref", &links),
            boxed(*b"idat", &data),
            extra.clone(),
        ];
        [boxed(*b"ftyp", b"heic\0\0\0\0mif1heic"), boxed(*b"meta", &meta.concat())].concat()
    }

    fn check(&self) -> Result<Container, ContainerProblem> {
        check(&self.build(), 1 << 20)
    }
}

/// Returns the parameters and the data of the picture of 96x64 pixels in the plain sample.
fn coded() -> (Vec<u8>, Vec<u8>) {
    let at = PLAIN.windows(4).position(|text| text == b"hvcC").unwrap();
    let length = u32::from_be_bytes(PLAIN[at - 4..at].try_into().unwrap());
    let parameters = PLAIN[at - 4..at - 4 + usize::try_from(length).unwrap()].to_vec();
    let file = HeifFile::parse(PLAIN).unwrap();
    (parameters, file.item_data(file.primary_id).unwrap().into_owned())
}

/// A coded picture with the properties 1 and 2.
fn picture() -> Part {
    Part { kind: *b"hvc1", data: coded().1, properties: vec![1, 2] }
}

fn plain() -> Recipe {
    Recipe { parts: vec![picture()], properties: vec![coded().0, size(96, 64)], ..Recipe::default() }
}

/// A grid of these rows and columns, with a tile for each place.
fn grid(rows: u8, columns: u8) -> Recipe {
    let (width, height) = (u16::from(columns) * 96, u16::from(rows) * 64);
    let data = [&[0, 0, rows - 1, columns - 1][..], &width.to_be_bytes(), &height.to_be_bytes()].concat();
    let tiles = u16::from(rows) * u16::from(columns);
    let mut recipe = plain();
    recipe.properties.push(size(width.into(), height.into()));
    recipe.parts = vec![Part { kind: *b"grid", data, properties: vec![3] }];
    recipe.parts.extend((0..tiles).map(|_| picture()));
    recipe.references = vec![(*b"dimg", 1, (2..tiles + 2).collect())];
    recipe
}

fn problem(recipe: &Recipe) -> String {
    recipe.check().unwrap_err().to_string()
}

#[test]
fn what_is_usual_passes_and_is_decoded() {
    let mut masked = plain();
    masked.properties.push(boxed(*b"auxC", b"\0\0\0\0urn:mpeg:hevc:2015:auxid:1\0"));
    masked.parts.push(Part { properties: vec![1, 2, 3], ..picture() });
    masked.references = vec![(*b"auxl", 2, vec![1])];
    let profile = Recipe {
        properties: [plain().properties, vec![boxed(*b"colr", b"profa profile")]].concat(),
        parts: vec![Part { properties: vec![1, 2, 3], ..picture() }],
        ..plain()
    };
    for (name, recipe, dimensions) in [
        ("plain", plain(), (96, 64)),
        ("grid", grid(2, 3), (288, 128)),
        ("alpha", masked, (96, 64)),
        ("profile", profile.clone(), (96, 64)),
    ] {
        let found = recipe.check().unwrap_or_else(|problem| panic!("{name}: {problem}"));
        assert_eq!(found.dimensions, dimensions, "{name}");
        let options = heifer::Options { max_threads: 1, max_pixels: found.pixels };
        let picture = heifer::decode_rgba8(&recipe.build(), &options).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!((picture.width, picture.height), dimensions, "{name}");
    }
    assert_eq!(profile.check().unwrap().profile.as_deref(), Some(&b"a profile"[..]));
}

#[test]
fn references_in_a_circle_are_refused() {
    let mut circle = plain();
    circle.parts.push(picture());
    circle.references = vec![(*b"dimg", 1, vec![2]), (*b"dimg", 2, vec![1])];
    assert!(problem(&circle).contains("has tiles"));
    let mut nested = grid(1, 2);
    nested.references.push((*b"dimg", 2, vec![1]));
    assert!(problem(&nested).contains("has tiles"));
    let mut own_tile = grid(1, 1);
    own_tile.references = vec![(*b"dimg", 1, vec![1])];
    assert!(problem(&own_tile).contains("tiles"));
    let mut own_alpha = plain();
    own_alpha.properties.push(boxed(*b"auxC", b"\0\0\0\0urn:mpeg:hevc:2015:auxid:1\0"));
    own_alpha.parts[0].properties.push(3);
    own_alpha.references = vec![(*b"auxl", 1, vec![1])];
    assert!(problem(&own_alpha).contains("alpha"));
}

#[test]
fn rare_kinds_are_refused_by_name() {
    for (kind, expected) in [
        (*b"iovl", "overlay"),
        (*b"iden", "derived"),
        (*b"av01", "not coded as usual"),
        (*b"jpeg", "not coded as usual"),
        (*b"hev1", "not coded as usual"),
    ] {
        let mut recipe = plain();
        recipe.parts[0].kind = kind;
        assert!(problem(&recipe).contains(expected), "{}", kind.escape_ascii());
        let mut recipe = grid(1, 2);
        recipe.parts[2].kind = kind;
        assert!(problem(&recipe).contains("tiles are not coded as usual"), "{}", kind.escape_ascii());
    }
}

#[test]
fn a_small_file_that_asks_for_much_work_is_refused() {
    let mut twice = grid(1, 2);
    twice.references = vec![(*b"dimg", 1, vec![2, 2])];
    // Each tile shares the bytes of the others.
    let mut shared = grid(8, 8);
    shared.lengths = Some(u32::try_from(coded().1.len()).unwrap() * 8);
    let mut tiny = grid(1, 2);
    tiny.properties[1] = size(1, 1);
    let mut larger = plain();
    larger.properties[1] = size(1024, 1025);
    let mut gap = grid(1, 2);
    gap.properties[1] = size(95, 64);
    let turned = Recipe {
        properties: [plain().properties, vec![boxed(*b"irot", &[1])]].concat(),
        parts: vec![Part { properties: vec![1, 2, 3, 3, 3, 3], ..picture() }],
        ..plain()
    };
    let padding = boxed(*b"free", &vec![0; META_BYTES_MAX]);
    let entries = boxed(*b"infe", &[2, 0, 0, 0, 0, 9, 0, 0, b'E', b'x', b'i', b'f', 0]).repeat(ITEMS_MAX);
    let twins = boxed(*b"infe", &[2, 0, 0, 0, 0, 9, 0, 0, b'E', b'x', b'i', b'f', 0]).repeat(2);
    let entries_of = |entries: &[u8]| boxed(*b"iinf", &[&[0; 6], entries].concat());
    let bomb = boxed(*b"iloc", &[&[0, 0, 0, 0, 0, 0, 0, 1][..], &[0, 1, 0, 0, 0xff, 0xff]].concat());
    let units = [&plain().parts[0].data[..], &[0, 0, 0, 2, 78, 1].repeat(UNITS_MAX)].concat();
    let marks = [0, 0, 0x18, 2, 78, 1].into_iter().chain([0, 0, 1].into_iter().cycle().take(0x1800));
    let parameters = coded().0;
    let at = parameters.windows(4).position(|text| text == b"hvcC").unwrap() + 4;
    // One more list, of a message that is longer than all of an encoder.
    let mut long = plain();
    let mut content = parameters[at..].to_vec();
    content[22] += 1;
    content.extend([&[39, 0, 1, 0x50, 0][..], &[78, 1], &vec![7; 0x4ffe]].concat());
    long.properties[0] = boxed(*b"hvcC", &content);
    let with = |extra: Vec<u8>| Recipe { extra, ..plain() };
    let with_data = |data: Vec<u8>| Recipe { parts: vec![Part { data, ..picture() }], ..plain() };
    for (name, recipe, expected) in [
        ("one tile twice", twice, "used twice"),
        ("shared bytes", shared, "share their bytes"),
        ("tiles of one pixel", tiny, "too small"),
        ("a grid with a gap", gap, "too small"),
        ("a large picture", larger, "1024x1025"),
        ("many turns", turned, "turned"),
        ("much metadata", with(padding), "metadata"),
        ("many items", with(entries_of(&entries)), "many pictures"),
        ("twins", with(entries_of(&twins)), "same number"),
        ("extents without bytes", with(bomb), "no bytes"),
        ("many units", with_data(units), "many parts"),
        ("many marks", with_data(marks.collect()), "many parts"),
        ("long parameters", long, "long parameters"),
        ("a cut unit", with_data(vec![0, 0, 1, 0, 78]), "cut"),
    ] {
        let found = problem(&recipe);
        assert!(found.contains(expected), "{name}: {found}");
    }
}

#[test]
fn all_coded_pixels_count() {
    let tile = 96 * 64;
    for (recipe, pixels_max, is_ok) in [
        (plain(), tile, true),
        (plain(), tile - 1, false),
        (grid(2, 2), 4 * tile, true),
        (grid(2, 2), 4 * tile - 1, false),
    ] {
        assert_eq!(check(&recipe.build(), pixels_max).is_ok(), is_ok, "{pixels_max}");
    }
    // Shows one column of the second tile, and each tile is counted whole.
    let mut narrow = grid(1, 40);
    narrow.properties[2] = size(96, 64);
    narrow.parts[0].data[4..8].copy_from_slice(&[0, 96, 0, 64]);
    assert_eq!(check(&narrow.build(), 20 * tile).unwrap().pixels, tile);
    let problem = check(&narrow.build(), 20 * tile - 1).unwrap_err().to_string();
    assert!(problem.contains("much larger"), "{problem}");
}

#[test]
fn slices_that_lie_on_each_other_are_limited() {
    let slice = plain().parts[0].data.clone();
    for (copies, is_ok) in [(1, true), (8, true), (9, false)] {
        let parts = vec![Part { data: slice.repeat(copies), ..picture() }];
        let found = check(&Recipe { parts, ..plain() }.build(), 96 * 64);
        assert_eq!(found.is_ok(), is_ok, "{copies}: {found:?}");
    }
}

#[test]
fn parameters_within_the_data_count() {
    // A sequence parameter set of 8192x8192 pixels, and one that is too wide for the decoder.
    for (width, expected) in [(8192_u32, "small part"), (1 << 20, "1048576")] {
        let set = parameters(width);
        let data = [&u32::try_from(set.len()).unwrap().to_be_bytes()[..], &set, &plain().parts[0].data].concat();
        let recipe = Recipe { parts: vec![Part { data, ..picture() }], ..plain() };
        let found = problem(&recipe);
        assert!(found.contains(expected), "{width}: {found}");
    }
}

/// Writes a sequence parameter set of a square picture.
fn parameters(side: u32) -> Vec<u8> {
    let mut bits: Vec<bool> = Vec::new();
    let fixed = |bits: &mut Vec<bool>, value: u64, count: u32| {
        bits.extend((0..count).rev().map(|bit| value >> bit & 1 == 1));
    };
    let golomb = |bits: &mut Vec<bool>, value: u32| {
        let code = u64::from(value) + 1;
        let length = 64 - code.leading_zeros();
        fixed(bits, 0, length - 1);
        fixed(bits, code, length);
    };
    fixed(&mut bits, 1, 8); // one layer, nested
    fixed(&mut bits, 3, 8); // profile
    fixed(&mut bits, 0x9000_0000_0000_0000 >> 16, 48);
    fixed(&mut bits, 0, 32);
    fixed(&mut bits, 120, 8); // level
    for value in [0, 1, side, side] {
        golomb(&mut bits, value);
    }
    bits.push(false); // no window
    for value in [0, 0, 4] {
        golomb(&mut bits, value);
    }
    bits.push(true);
    // Buffers, blocks of 8 to 64 and of 4 to 32, depths.
    for value in [0, 0, 0, 0, 3, 0, 3, 0, 0] {
        golomb(&mut bits, value);
    }
    bits.extend([false; 4]);
    golomb(&mut bits, 0);
    bits.extend([false, false, true, false, false, true]);
    while !bits.len().is_multiple_of(8) {
        bits.push(false);
    }
    let payload = bits.chunks(8).map(|bits| bits.iter().fold(0, |byte: u8, bit| byte << 1 | u8::from(*bit)));
    // The mark of an escape after two zeros.
    let mut unit = vec![0x42, 1];
    for byte in payload {
        if unit.ends_with(&[0, 0]) && byte <= 3 {
            unit.push(3);
        }
        unit.push(byte);
    }
    unit
}

#[test]
fn every_cut_and_every_changed_byte_has_an_answer() {
    let whole = grid(1, 2).build();
    for end in 0..whole.len() {
        assert!(check(&whole[..end], 1 << 20).is_err(), "{end}");
    }
    let head = whole.windows(4).position(|text| text == b"idat").unwrap();
    for at in 0..head {
        for value in [0, 1, 0x7f, 0xff] {
            let mut changed = whole.clone();
            changed[at] = value;
            if let Ok(found) = check(&changed, 1 << 20) {
                assert!(found.pixels <= 1 << 21, "byte {at} as {value}");
            }
        }
    }
}
