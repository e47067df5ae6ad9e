//! The size of a terminal, whose it is, and how often it changes.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU16;
use std::str::FromStr;
use std::time::{Duration, Instant};

/// The widest terminal, in characters.
pub const MAX_COLUMNS: u16 = 1000;
/// The highest terminal, in lines.
pub const MAX_ROWS: u16 = 500;
/// The shortest time between two changes of a terminal's size.
const BETWEEN: Duration = Duration::from_millis(40);

/// The size of a terminal: at least 1 column and 1 row, at most [`MAX_COLUMNS`] and [`MAX_ROWS`].
///
/// ```
/// use trunkline_host::Size;
///
/// assert_eq!(Size::default(), Size::new(80, 24));
/// assert_eq!(Size::new(0, 60_000), Size::new(1, 500));
/// assert_eq!("132x43".parse(), Ok(Size::new(132, 43)));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Size {
    columns: NonZeroU16,
    rows: NonZeroU16,
}

/// A text is not the size of a terminal.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0:?} is not the size of a terminal; write COLUMNSxROWS, as 80x24, up to {MAX_COLUMNS}x{MAX_ROWS}")]
pub struct SizeError(String);

impl Size {
    /// Makes a size. A number that is too small or too large becomes the nearest that is not.
    #[must_use]
    pub const fn new(columns: u16, rows: u16) -> Self {
        Self { columns: within(columns, MAX_COLUMNS), rows: within(rows, MAX_ROWS) }
    }

    /// Returns the width in characters.
    #[must_use]
    pub const fn columns(self) -> u16 {
        self.columns.get()
    }

    /// Returns the height in lines.
    #[must_use]
    pub const fn rows(self) -> u16 {
        self.rows.get()
    }

    /// Rows and columns, as `vt100` takes them.
    pub(crate) const fn cells(self) -> (NonZeroU16, NonZeroU16) {
        (self.rows, self.columns)
    }
}

const fn within(wish: u16, most: u16) -> NonZeroU16 {
    match NonZeroU16::new(if wish > most { most } else { wish }) {
        Some(number) => number,
        None => NonZeroU16::MIN,
    }
}

impl Default for Size {
    /// 80 columns and 24 rows.
    fn default() -> Self {
        Self::new(80, 24)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.columns, self.rows)
    }
}

impl FromStr for Size {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Self, SizeError> {
        let parse = || {
            let (columns, rows) = text.split_once('x')?;
            let number = |text: &str, most: u16| {
                let digits = text.bytes().all(|byte| byte.is_ascii_digit());
                text.parse().ok().filter(|number| digits && (1..=most).contains(number))
            };
            Some(Self::new(number(columns, MAX_COLUMNS)?, number(rows, MAX_ROWS)?))
        };
        parse().ok_or_else(|| SizeError(text.chars().take(40).collect()))
    }
}

/// Whose size a shared terminal has. Its text is `owner`, `smallest`, `latest`, or a size.
///
/// ```
/// use trunkline_host::{Size, SizePolicy};
///
/// assert_eq!("smallest".parse(), Ok(SizePolicy::Smallest));
/// assert_eq!("132x43".parse(), Ok(SizePolicy::Fixed(Size::new(132, 43))));
/// assert_eq!(SizePolicy::default().to_string(), "owner");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum SizePolicy {
    /// That of the client that owns the input, else of the last owner.
    #[default]
    Owner,
    /// The smallest width and the smallest height of all clients that are there, so that each sees everything.
    Smallest,
    /// That of the client whose size changed last.
    Latest,
    /// This one, whatever the clients have.
    Fixed(Size),
}

/// A text is no [`SizePolicy`].
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("write owner, smallest or latest; or a size: {0}")]
pub struct SizePolicyError(#[source] SizeError);

impl fmt::Display for SizePolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Owner => f.write_str("owner"),
            Self::Smallest => f.write_str("smallest"),
            Self::Latest => f.write_str("latest"),
            Self::Fixed(size) => size.fmt(f),
        }
    }
}

impl FromStr for SizePolicy {
    type Err = SizePolicyError;

    fn from_str(text: &str) -> Result<Self, SizePolicyError> {
        match text {
            "owner" => Ok(Self::Owner),
            "smallest" => Ok(Self::Smallest),
            "latest" => Ok(Self::Latest),
            size => size.parse().map(Self::Fixed).map_err(SizePolicyError),
        }
    }
}

/// The sizes of a shared terminal's clients, and what the terminal's is: a value without clock or threads.
///
/// Clients are told apart by a number that the caller gives them.
///
/// ```
/// use trunkline_host::{Size, SizePolicy, Sizes};
///
/// let mut sizes = Sizes::new(SizePolicy::Smallest);
/// assert_eq!(sizes.size(), Size::new(80, 24)); // before a client has said something
/// sizes.set(1, Size::new(120, 30));
/// sizes.set(2, Size::new(100, 50));
/// assert_eq!(sizes.size(), Size::new(100, 30));
/// sizes.remove(2);
/// assert_eq!(sizes.size(), Size::new(120, 30));
/// ```
#[derive(Clone, Debug)]
pub struct Sizes {
    policy: SizePolicy,
    clients: BTreeMap<u64, Window>,
    owner: Option<u64>,
    size: Size,
}

/// What a client has to show the terminal in.
#[derive(Clone, Copy, Debug)]
struct Window {
    size: Size,
    /// Its link is lost, and it shows nothing.
    lost: bool,
}

impl Sizes {
    /// Begins without clients, with 80 columns and 24 rows or the fixed size.
    #[must_use]
    pub fn new(policy: SizePolicy) -> Self {
        let size = if let SizePolicy::Fixed(size) = policy { size } else { Size::default() };
        Self { policy, clients: BTreeMap::new(), owner: None, size }
    }

    /// Returns the size of the terminal.
    #[must_use]
    pub fn size(&self) -> Size {
        self.size
    }

    /// A client says how large its terminal is.
    pub fn set(&mut self, client: u64, size: Size) {
        self.clients.insert(client, Window { size, lost: false });
        match self.policy {
            SizePolicy::Owner if self.owner == Some(client) => self.size = size,
            SizePolicy::Latest => self.size = size,
            SizePolicy::Smallest => self.smallest(),
            SizePolicy::Owner | SizePolicy::Fixed(_) => {}
        }
    }

    /// A client owns the input, or none does. Without an owner the terminal keeps the last one's size.
    pub fn set_owner(&mut self, owner: Option<u64>) {
        self.owner = owner;
        if self.policy == SizePolicy::Owner
            && let Some(window) = owner.and_then(|owner| self.clients.get(&owner))
        {
            self.size = window.size;
        }
    }

    /// A client's link is lost, or there again. A lost client makes no other's terminal smaller; its own is as it was when it
    /// comes back.
    ///
    /// ```
    /// use trunkline_host::{Size, SizePolicy, Sizes};
    ///
    /// let mut sizes = Sizes::new(SizePolicy::Smallest);
    /// sizes.set(1, Size::new(120, 30));
    /// sizes.set(2, Size::new(100, 50));
    /// sizes.set_lost(2, true);
    /// assert_eq!(sizes.size(), Size::new(120, 30));
    /// sizes.set_lost(2, false);
    /// assert_eq!(sizes.size(), Size::new(100, 30));
    /// ```
    pub fn set_lost(&mut self, client: u64, lost: bool) {
        if let Some(window) = self.clients.get_mut(&client) {
            window.lost = lost;
        }
        if self.policy == SizePolicy::Smallest {
            self.smallest();
        }
    }

    /// A client leaves. The terminal of the last one keeps its size.
    pub fn remove(&mut self, client: u64) {
        self.clients.remove(&client);
        if self.owner == Some(client) {
            self.owner = None;
        }
        if self.policy == SizePolicy::Smallest {
            self.smallest();
        }
    }

    /// Without a client that is there the terminal keeps its size.
    fn smallest(&mut self) {
        let smaller = |one: Size, other: Size| Size {
            columns: one.columns.min(other.columns),
            rows: one.rows.min(other.rows),
        };
        let there = self.clients.values().filter(|window| !window.lost);
        if let Some(size) = there.map(|window| window.size).reduce(smaller) {
            self.size = size;
        }
    }
}

/// Holds changes of the size back that come too soon, and forgets all but the last.
#[derive(Debug)]
pub(crate) struct Pace {
    set: Size,
    wish: Option<Size>,
    not_before: Option<Instant>,
}

impl Pace {
    pub(crate) fn new(set: Size) -> Self {
        Self { set, wish: None, not_before: None }
    }

    pub(crate) fn want(&mut self, size: Size) {
        self.wish = (size != self.set).then_some(size);
    }

    /// When [`Pace::take`] has something.
    pub(crate) fn due(&self, now: Instant) -> Option<Instant> {
        self.wish.map(|_| self.not_before.unwrap_or(now))
    }

    /// The size that is to be set now.
    pub(crate) fn take(&mut self, now: Instant) -> Option<Size> {
        if self.not_before.is_some_and(|then| now < then) {
            return None;
        }
        let size = self.wish.take()?;
        self.set = size;
        self.not_before = Some(now + BETWEEN);
        Some(size)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn texts_that_are_no_size_are_refused() {
        for text in
            ["", "80", "x", "80x", "x24", "0x24", "80x0", "-1x24", "+80x24", "1001x24", "80x24x1", "80X24"]
        {
            let error = text.parse::<Size>().unwrap_err();
            assert!(error.to_string().contains("COLUMNSxROWS"), "{error}");
        }
    }

    #[test]
    fn a_policy_is_its_text() {
        for policy in ["owner", "smallest", "latest", "100x30"] {
            assert_eq!(policy.parse::<SizePolicy>().unwrap().to_string(), policy);
        }
        let error = "biggest".parse::<SizePolicy>().unwrap_err().to_string();
        assert!(error.contains("owner, smallest or latest") && error.contains("\"biggest\""), "{error}");
    }

    #[test]
    fn a_burst_becomes_its_first_and_its_last() {
        let start = Instant::now();
        let mut pace = Pace::new(Size::default());
        let mut set = Vec::new();
        // 200 changes within a second.
        for step in 0..200_u16 {
            let now = start + Duration::from_millis(5) * u32::from(step);
            pace.want(Size::new(81 + step, 24));
            set.extend(pace.take(now));
        }
        let end = pace.due(start + Duration::from_secs(1)).unwrap();
        set.extend(pace.take(end));
        assert_eq!(set.first(), Some(&Size::new(81, 24)));
        assert_eq!(set.last(), Some(&Size::new(280, 24)));
        assert!(set.len() <= 26, "{}", set.len());
        assert_eq!(pace.due(end), None);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Set(u64, u16, u16),
        Owner(Option<u64>),
        Lost(u64, bool),
        Remove(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0..4_u64, any::<u16>(), any::<u16>())
                .prop_map(|(client, columns, rows)| Step::Set(client, columns, rows)),
            prop::option::of(0..4_u64).prop_map(Step::Owner),
            (0..4_u64, any::<bool>()).prop_map(|(client, lost)| Step::Lost(client, lost)),
            (0..4_u64).prop_map(Step::Remove),
        ]
    }

    proptest! {
        #[test]
        fn a_shared_size_is_one_that_a_client_can_show(steps in prop::collection::vec(step(), 0..40)) {
            let mut sizes = [SizePolicy::Owner, SizePolicy::Smallest, SizePolicy::Latest].map(Sizes::new);
            let mut clients: BTreeMap<u64, (Size, bool)> = BTreeMap::new();
            let mut smallest = Size::default();
            for step in steps {
                for sizes in &mut sizes {
                    match step.clone() {
                        Step::Set(client, columns, rows) => sizes.set(client, Size::new(columns, rows)),
                        Step::Owner(owner) => sizes.set_owner(owner),
                        Step::Lost(client, lost) => sizes.set_lost(client, lost),
                        Step::Remove(client) => sizes.remove(client),
                    }
                }
                match step {
                    Step::Set(client, columns, rows) => drop(clients.insert(client, (Size::new(columns, rows), false))),
                    Step::Lost(client, lost) => drop(clients.get_mut(&client).map(|client| client.1 = lost)),
                    Step::Remove(client) => drop(clients.remove(&client)),
                    Step::Owner(_) => {}
                }
                let there: Vec<_> = clients.values().filter(|(_, lost)| !lost).map(|(size, _)| *size).collect();
                if !there.is_empty() {
                    let columns = there.iter().map(|size| size.columns()).min().unwrap();
                    let rows = there.iter().map(|size| size.rows()).min().unwrap();
                    smallest = Size::new(columns, rows);
                }
                let [owner, shared, _] = &sizes;
                prop_assert_eq!(shared.size(), smallest);
                for size in sizes.iter().map(Sizes::size) {
                    prop_assert!((1..=MAX_COLUMNS).contains(&size.columns()) && (1..=MAX_ROWS).contains(&size.rows()));
                }
                if let Some((own, _)) = owner.owner.and_then(|client| clients.get(&client)) {
                    prop_assert_eq!(owner.size(), *own);
                }
            }
        }
    }
}
