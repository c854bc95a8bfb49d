//! Returns what it is given: what goes in as JSON must come out as the same JSON.

ambit_sdk::generate!({ world: "ambit-tests:good-echo/tool" });

use exports::ambit_tests::good_echo::echo::{Access, Colour, Everything, Guest as Echo, Line, Point, Shape};

struct Tool;

export!(Tool);

impl Guest for Tool {
    fn hash(json: String) -> u64 {
        let step = |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        json.bytes().fold(0xcbf2_9ce4_8422_2325, step)
    }
}

macro_rules! echo {
    ($($name:ident: $type:ty),* $(,)?) => {
        impl Echo for Tool {
            $(fn $name(value: $type) -> $type {
                value
            })*

            fn an_outcome(value: Result<Point, Colour>) -> (Result<Point, Colour>,) {
                (value,)
            }

            fn join(first: String, second: Option<String>, count: Option<u32>) -> String {
                let second = second.unwrap_or_default();
                format!("{first}{second}").repeat(count.unwrap_or(1) as usize)
            }

            fn settle_quietly(good: bool) -> Result<(), ()> {
                good.then_some(()).ok_or(())
            }

            fn nothing() {}
        }
    };
}

echo! {
    a_bool: bool,
    an_s8: i8,
    a_u8: u8,
    an_s16: i16,
    a_u16: u16,
    an_s32: i32,
    a_u32: u32,
    an_s64: i64,
    a_u64: u64,
    an_f32: f32,
    an_f64: f64,
    a_char: char,
    a_string: String,
    bytes: Vec<u8>,
    strings: Vec<String>,
    grid: Vec<Vec<i32>>,
    a_tuple: (String, u8, bool),
    a_point: Point,
    a_line: Line,
    lines: Vec<Line>,
    a_shape: Shape,
    a_colour: Colour,
    some_access: Access,
    perhaps: Option<Point>,
    perhaps_twice: Option<Option<u32>>,
    all_at_once: Everything,
    settle: Result<String, Colour>,
}
