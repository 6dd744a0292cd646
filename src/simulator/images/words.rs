//! The words of a prompt that change a picture.

/// A change of a picture. They are made in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Effect {
    /// Season, light and weather.
    Light(Grade),
    Particles(Particles),
    Drawn(Style),
    /// As old photographs and films are.
    Finish(Grade),
}

/// A change of colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Grade {
    Spring,
    Autumn,
    Snow,
    Desert,
    Underwater,
    Sunset,
    Night,
    Dark,
    Bright,
    Storm,
    Rain,
    Fog,
    Tint(Tint),
    Sepia,
    Vintage,
    BlackAndWhite,
    Inverted,
}

/// Small things that fall or shine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Particles {
    Petals,
    Leaves,
    Snowflakes,
    Raindrops,
    Stars,
}

/// A way to draw.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Style {
    Neon,
    Watercolour,
    PixelArt,
    PopArt,
    Ink,
    Pencil,
}

/// A colour that a prompt names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Tint {
    Red,
    Orange,
    Gold,
    Green,
    Blue,
    Purple,
    Pink,
}

/// Words and what they do. A word of letters counts at the beginning of a word of the prompt; the others, of scripts without
/// spaces between words, count everywhere.
const WORDS: &[(&[&str], &[Effect])] = &[
    (
        &["night", "midnight", "moon", "star", "nacht", "nuit", "noche", "夜", "밤", "ночь"],
        &[Effect::Light(Grade::Night), Effect::Particles(Particles::Stars)],
    ),
    (
        &["winter", "snow", "schnee", "neige", "nieve", "hiver", "冬", "雪", "겨울", "зим", "снег"],
        &[Effect::Light(Grade::Snow), Effect::Particles(Particles::Snowflakes)],
    ),
    (&["frost", "frozen", "icy", "ice", "christmas", "冰"], &[Effect::Light(Grade::Snow)]),
    (
        &[
            "sunset",
            "sunrise",
            "dusk",
            "dawn",
            "golden hour",
            "evening",
            "sonnenuntergang",
            "atardecer",
            "夕",
            "日落",
            "黄昏",
        ],
        &[Effect::Light(Grade::Sunset)],
    ),
    (
        &["autumn", "fall", "october", "herbst", "automne", "otoño", "秋", "가을", "осен"],
        &[Effect::Light(Grade::Autumn), Effect::Particles(Particles::Leaves)],
    ),
    (
        &["spring", "blossom", "cherry", "frühling", "printemps", "primavera", "春", "樱", "桜", "봄"],
        &[Effect::Light(Grade::Spring), Effect::Particles(Particles::Petals)],
    ),
    (
        &["rain", "wet", "regen", "pluie", "lluvia", "雨", "비가", "дожд"],
        &[Effect::Light(Grade::Rain), Effect::Particles(Particles::Raindrops)],
    ),
    (&["storm", "thunder", "嵐", "暴"], &[Effect::Light(Grade::Storm), Effect::Particles(Particles::Raindrops)]),
    (
        &[
            "fog",
            "foggy",
            "mist",
            "misty",
            "haze",
            "hazy",
            "nebel",
            "brouillard",
            "niebla",
            "霧",
            "雾",
            "안개",
            "туман",
        ],
        &[Effect::Light(Grade::Fog)],
    ),
    (&["desert", "sand", "mars", "沙漠", "砂漠"], &[Effect::Light(Grade::Desert)]),
    (&["underwater", "ocean", "under water", "水中", "海底"], &[Effect::Light(Grade::Underwater)]),
    (&["neon", "cyberpunk", "synthwave", "霓虹", "ネオン", "赛博"], &[Effect::Drawn(Style::Neon)]),
    (
        &["watercolor", "watercolour", "aquarell", "aquarelle", "acuarela", "oil painting", "impressionis", "水彩"],
        &[Effect::Drawn(Style::Watercolour)],
    ),
    (&["pixel", "8-bit", "8bit", "像素", "ドット"], &[Effect::Drawn(Style::PixelArt)]),
    (&["pop art", "pop-art", "popart", "warhol", "comic", "poster", "波普"], &[Effect::Drawn(Style::PopArt)]),
    (&["ink", "woodcut", "linocut", "line art", "manga", "水墨", "墨", "tusche"], &[Effect::Drawn(Style::Ink)]),
    (&["pencil", "sketch", "charcoal", "bleistift", "crayon", "素描", "铅笔", "鉛筆"], &[Effect::Drawn(Style::Pencil)]),
    (&["sepia", "daguerreotype", "old photo", "老照片"], &[Effect::Finish(Grade::Sepia)]),
    (&["vintage", "retro", "faded", "polaroid", "复古", "レトロ"], &[Effect::Finish(Grade::Vintage)]),
    (
        &[
            "black and white",
            "black-and-white",
            "black & white",
            "monochrome",
            "grayscale",
            "greyscale",
            "b&w",
            "noir",
            "schwarzweiß",
            "黑白",
            "白黒",
        ],
        &[Effect::Finish(Grade::BlackAndWhite)],
    ),
    (&["invert", "negative", "x-ray"], &[Effect::Finish(Grade::Inverted)]),
    (&["dark", "moody", "gloomy", "düster", "暗"], &[Effect::Light(Grade::Dark)]),
    (&["bright", "sunny", "summer", "cheerful", "sommer", "verano", "夏", "明亮"], &[Effect::Light(Grade::Bright)]),
    (&["red", "crimson", "rot", "rouge", "rojo", "红", "赤"], &[Effect::Light(Grade::Tint(Tint::Red))]),
    (&["orange", "橙"], &[Effect::Light(Grade::Tint(Tint::Orange))]),
    (&["gold", "yellow", "gelb", "jaune", "amarillo", "金", "黄色"], &[Effect::Light(Grade::Tint(Tint::Gold))]),
    (&["green", "grün", "vert", "verde", "绿", "緑"], &[Effect::Light(Grade::Tint(Tint::Green))]),
    (&["blue", "teal", "cyan", "blau", "bleu", "azul", "蓝", "青"], &[Effect::Light(Grade::Tint(Tint::Blue))]),
    (&["purple", "violet", "lila", "morado", "紫"], &[Effect::Light(Grade::Tint(Tint::Purple))]),
    (&["pink", "rosa", "magenta", "粉"], &[Effect::Light(Grade::Tint(Tint::Pink))]),
];

/// Returns the effects that a prompt asks for, each once, in the order in which they are made.
pub(super) fn effects(prompt: &str) -> Vec<Effect> {
    // More would be a novel.
    let prompt: String = prompt.chars().take(4000).collect::<String>().to_lowercase();
    let asked = WORDS.iter().filter(|(words, _)| words.iter().any(|word| has(&prompt, word)));
    let mut effects: Vec<Effect> = asked.flat_map(|(_, effects)| effects.iter().copied()).collect();
    effects.sort_unstable();
    effects.dedup();
    // A picture is drawn in one way.
    let style = effects.iter().copied().find(|effect| effect.is_style());
    effects.retain(|effect| !effect.is_style() || Some(*effect) == style);
    effects
}

impl Effect {
    /// Whether it is a way to draw.
    fn is_style(self) -> bool {
        matches!(self, Self::Drawn(_))
    }
}

/// Whether a prompt asks for no change at all.
pub(super) fn is_unchanged(prompt: &str) -> bool {
    has(&prompt.to_lowercase(), "unchanged")
}

/// Whether a prompt names one of these words.
pub(super) fn names(prompt: &str, words: &[&str]) -> bool {
    let prompt = prompt.to_lowercase();
    words.iter().any(|word| has(&prompt, word))
}

/// Whether a prompt in lower case has a word: at the start of one of its own, and with at most three letters more, as in
/// "snowy" and "nights".
fn has(prompt: &str, word: &str) -> bool {
    const ENDING_MAX: usize = 3;
    prompt.match_indices(word).any(|(at, _)| {
        if !is_alphabet(word) {
            return true;
        }
        let starts = !prompt[..at].chars().next_back().is_some_and(char::is_alphanumeric);
        let ending = prompt[at + word.len()..].chars().take_while(|letter| letter.is_alphanumeric()).count();
        // Short words begin many others: "ink" and "inkling", "red" and "reduce".
        let most = if word.len() <= 4 { 1 } else { ENDING_MAX };
        starts && ending <= most
    })
}

/// Whether a word is of a script with spaces between words.
fn is_alphabet(word: &str) -> bool {
    const IDEOGRAPHS: char = '\u{2e80}';
    word.chars().all(|letter| letter < IDEOGRAPHS)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SNOW: Effect = Effect::Light(Grade::Snow);
    const NIGHT: Effect = Effect::Light(Grade::Night);
    const SNOWFLAKES: Effect = Effect::Particles(Particles::Snowflakes);
    const STARS: Effect = Effect::Particles(Particles::Stars);

    #[test]
    fn words_of_a_prompt_are_found_in_any_case_and_combined() {
        assert_eq!(effects("Make it a WINTER night"), [SNOW, NIGHT, SNOWFLAKES, STARS]);
        assert_eq!(effects("一个下雪的冬夜"), [SNOW, NIGHT, SNOWFLAKES, STARS]);
        let [rain, fog] = [Grade::Rain, Grade::Fog].map(Effect::Light);
        let (red, drops) = (Effect::Light(Grade::Tint(Tint::Red)), Effect::Particles(Particles::Raindrops));
        assert_eq!(effects("rainy, foggy, in red"), [rain, fog, red, drops]);
        assert_eq!(effects("a pencil sketch"), [Effect::Drawn(Style::Pencil)]);
        assert_eq!(effects("neon, ink and pencil in fog"), [fog, Effect::Drawn(Style::Neon)], "one way to draw");
    }

    #[test]
    fn words_inside_of_others_do_nothing() {
        assert!(effects("think about reduced training, a knight and a startling price").is_empty());
        assert!(effects("a hat").is_empty() && effects("").is_empty());
        assert!(is_unchanged("return the same picture unchanged") && !is_unchanged("a hat"));
    }
}
