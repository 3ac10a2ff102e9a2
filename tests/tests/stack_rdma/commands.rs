//! What `record.c` writes down: uverbs commands as they reach the device.

use std::fs;
use std::path::Path;

/// One attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attribute {
    pub id: u16,
    pub bytes: usize,
    pub mandatory: bool,
    /// Its content in hexadecimal, where it is worth comparing.
    pub content: String,
}

/// Id, bytes and whether it is mandatory, of each attribute in their order.
pub type Shape = Vec<(u16, usize, bool)>;

/// One command and how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    pub object: u16,
    pub method: u16,
    pub length: usize,
    pub driver: u32,
    pub errno: i32,
    pub attributes: Vec<Attribute>,
}

/// A program's commands, in their order.
#[derive(Debug)]
pub struct Commands {
    pub all: Vec<Command>,
    closes: usize,
}

impl Command {
    fn parse(line: &str) -> Option<Self> {
        let (words, errno) = line.split_once(" = ")?;
        let mut words = words.split(' ');
        let mut number = || words.next()?.parse::<u32>().ok();
        let (object, method) = (number()? as u16, number()? as u16);
        let (length, driver) = (number()? as usize, number()?);
        let attribute = |word: &str| {
            let mut parts = word.split(':');
            Some(Attribute {
                id: parts.next()?.parse().ok()?,
                bytes: parts.next()?.parse().ok()?,
                mandatory: parts.next()? == "1",
                content: parts.next()?.to_owned(),
            })
        };
        Some(Self {
            object,
            method,
            length,
            driver,
            errno: errno.parse().ok()?,
            attributes: words.map(attribute).collect::<Option<_>>()?,
        })
    }

    pub fn attribute(&self, id: u16) -> Option<&Attribute> {
        self.attributes.iter().find(|attribute| attribute.id == id)
    }

    /// Its name in reference/uverbs-boundary.md §2, by object and method or number of the tunnelled
    /// command.
    pub fn name(&self) -> &'static str {
        let tunnelled = self.attribute(2).map_or("", |number| &number.content);
        match (self.object, self.method) {
            (0, 0) => match tunnelled {
                "0100000000000000" => "probe",
                "0100008000000000" => "query device",
                "0300000000000000" => "alloc pd",
                "0900000000000000" => "register memory",
                "1100000000000000" => "create channel",
                "3700008000000000" => "create table",
                other => panic!("write command {other}"),
            },
            (0, 3) => "get context",
            (16, 0) => "alloc async event",
            (3, 0) => "create cq",
            (4, 0) if self.attribute(6).is_some() => "create rss",
            (4, 0) => "create send queue",
            (12, 0) => "create work queue",
            (1, 0) => "destroy pd",
            (3, 1) => "destroy cq",
            (4, 1) => "destroy qp",
            (7, 1) => "destroy mr",
            (11, 0) => "destroy table",
            (12, 1) => "destroy work queue",
            other => panic!("command {other:?}: {self:?}"),
        }
    }

    pub fn shape(&self) -> Shape {
        let shape = |a: &Attribute| (a.id, a.bytes, a.mandatory);
        self.attributes.iter().map(shape).collect()
    }
}

impl Commands {
    /// Reads the log and takes it away.
    pub fn take(log: &Path) -> Self {
        let text = fs::read_to_string(log).expect("something was recorded");
        fs::remove_file(log).expect("the log can be removed");
        let parse = |line: &str| Command::parse(line).unwrap_or_else(|| panic!("`{line}`"));
        let (closes, commands): (Vec<&str>, Vec<&str>) =
            text.lines().partition(|line| *line == "close");
        Self {
            all: commands.into_iter().map(parse).collect(),
            closes: closes.len(),
        }
    }

    pub fn names(&self) -> Vec<&'static str> {
        self.all.iter().map(Command::name).collect()
    }

    /// How many commands of these names succeeded.
    fn done(&self, names: &[&str]) -> usize {
        let done = |c: &&Command| c.errno == 0 && names.contains(&c.name());
        self.all.iter().filter(done).count()
    }

    /// Asserts that everything that was made was destroyed, and every context closed.
    pub fn assert_nothing_left(&self) {
        for (made, gone) in [
            (&["alloc pd"][..], "destroy pd"),
            (&["register memory"], "destroy mr"),
            (&["create cq"], "destroy cq"),
            (&["create send queue", "create rss"], "destroy qp"),
            (&["create work queue"], "destroy work queue"),
            (&["create table"], "destroy table"),
        ] {
            assert_eq!(self.done(made), self.done(&[gone]), "{made:?}: {self:#?}");
        }
        assert_eq!(self.done(&["get context"]), self.closes, "{self:#?}");
    }
}
