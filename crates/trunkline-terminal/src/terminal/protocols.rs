//! Pictures in the terminal's own words, where it has some.

use std::env;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use trunkline_kernel::layout::Picture;

/// A larger picture goes to a file, since a terminal keeps what it shows.
const LARGEST: usize = 8 << 20;

/// How a terminal shows pictures.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Protocol {
    /// That of Kitty: PNG.
    Kitty,
    /// That of iTerm2: PNG, JPEG and GIF.
    Iterm,
    /// Sixel: PNG, which is decoded here.
    #[cfg_attr(not(feature = "sixel"), expect(dead_code, reason = "it is asked for all the same"))]
    Sixel,
}

/// Returns what the environment says of the terminal; `None` if it has to be asked.
pub(crate) fn known() -> Option<Protocol> {
    let is = |name: &str, values: &[&str]| env::var(name).is_ok_and(|it| values.contains(&it.as_str()));
    // What stands between passes on none of it, or not to all that are attached.
    if env::var_os("TMUX").is_some() || env::var_os("STY").is_some() {
        return None;
    }
    if is("TERM", &["xterm-kitty", "xterm-ghostty"]) || env::var_os("KITTY_WINDOW_ID").is_some() {
        Some(Protocol::Kitty)
    } else if is("TERM_PROGRAM", &["iTerm.app", "WezTerm"]) || is("LC_TERMINAL", &["iTerm2"]) {
        Some(Protocol::Iterm)
    } else {
        None
    }
}

/// Returns what shows the picture, if this terminal can.
pub(crate) fn encode(protocol: Protocol, picture: &Picture) -> Option<Vec<u8>> {
    if picture.body.is_empty() || picture.body.len() > LARGEST {
        return None;
    }
    match (protocol, picture.mime.as_str()) {
        (Protocol::Kitty, "image/png") => Some(kitty(&picture.body)),
        (Protocol::Iterm, "image/png" | "image/jpeg" | "image/gif") => {
            let size = picture.body.len();
            Some(format!("\x1b]1337;File=inline=1;size={size}:{}\x07", BASE64.encode(&picture.body)).into())
        }
        (Protocol::Sixel, "image/png") => sixel(&picture.body),
        _ => None,
    }
}

/// In pieces of 4096 characters, which is the most that Kitty takes.
fn kitty(png: &[u8]) -> Vec<u8> {
    let text = BASE64.encode(png);
    let mut command = String::with_capacity(text.len() + text.len() / 256 + 64);
    let mut rest = text.as_str();
    // No answer is wanted: it would come as keys.
    let mut header = "a=T,f=100,q=2,";
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(rest.len().min(4096));
        let more = u8::from(!after.is_empty());
        // It does not fail for a string.
        let _ = write!(command, "\x1b_G{header}m={more};{piece}\x1b\\");
        (rest, header) = (after, "");
    }
    command.into_bytes()
}

#[cfg(feature = "sixel")]
fn sixel(png: &[u8]) -> Option<Vec<u8>> {
    /// A picture with more pixels is not decoded: a small file can have very many.
    const PIXELS: usize = 4 << 20;
    let mut decoder =
        png::Decoder::new_with_limits(std::io::Cursor::new(png), png::Limits { bytes: 64 << 20 });
    decoder.set_transformations(png::Transformations::normalize_to_color8() | png::Transformations::ALPHA);
    let mut reader = decoder.read_info().ok()?;
    let (width, height) = (reader.info().width as usize, reader.info().height as usize);
    if width.checked_mul(height)? > PIXELS {
        return None;
    }
    let mut pixels = vec![0; reader.output_buffer_size()?];
    let frame = reader.next_frame(&mut pixels).ok()?;
    pixels.truncate(frame.buffer_size());
    let pixels = match frame.color_type {
        png::ColorType::Rgba => pixels,
        png::ColorType::GrayscaleAlpha => {
            pixels.chunks_exact(2).flat_map(|it| [it[0], it[0], it[0], it[1]]).collect()
        }
        _ => return None,
    };
    let image = icy_sixel::SixelImage::try_from_rgba(pixels, width, height).ok()?;
    image.encode().ok().map(String::into_bytes)
}

#[cfg(not(feature = "sixel"))]
fn sixel(_png: &[u8]) -> Option<Vec<u8>> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kitty_gets_pieces_of_4096_characters() {
        let command = String::from_utf8(kitty(&[7; 7000])).unwrap();
        let pieces: Vec<&str> = command.split_terminator("\x1b\\").collect();
        assert!(pieces.len() == 3 && pieces[0].starts_with("\x1b_Ga=T,f=100,q=2,m=1;"));
        assert!(pieces[1].starts_with("\x1b_Gm=1;") && pieces[2].starts_with("\x1b_Gm=0;"));
        let text: String = pieces.iter().map(|piece| piece.split_once(';').unwrap().1).collect();
        assert_eq!(BASE64.decode(text).unwrap(), [7; 7000]);
    }

    #[cfg(feature = "sixel")]
    #[test]
    fn a_png_becomes_sixel_and_a_bomb_does_not() {
        let png = |width, height| {
            let mut bytes = Vec::new();
            let mut encoder = png::Encoder::new(&mut bytes, width, height);
            encoder.set_color(png::ColorType::Grayscale);
            encoder.set_depth(png::BitDepth::Eight);
            let mut writer = encoder.write_header().unwrap();
            writer.write_image_data(&vec![200; (width * height) as usize]).unwrap();
            drop(writer);
            bytes
        };
        let small = Picture::new("image/png", png(20, 12));
        let shown = encode(Protocol::Sixel, &small).unwrap();
        assert!(shown.starts_with(b"\x1bP") && shown.ends_with(b"\x1b\\"));
        assert_eq!(encode(Protocol::Sixel, &Picture::new("image/png", png(4096, 1025))), None);
        assert_eq!(encode(Protocol::Sixel, &Picture::new("image/png", "no png")), None);
    }
}
