//! Which pages are wanted, and which were got.

use std::fmt;

/// Granularity of segments, and the size of the smallest page, in bytes.
pub(crate) const BASE: usize = 4 << 10;
/// Size of a transparent huge page and of the common hugetlb page, in bytes.
pub(crate) const HUGE_2M: usize = 2 << 20;
/// Size of the large hugetlb page, in bytes.
pub(crate) const HUGE_1G: usize = 1 << 30;

/// The pages that really back a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PageKind {
    /// The kernel's smallest pages. Also stated when only a part of the region got huge pages.
    Base,
    /// Transparent huge pages of 2 MiB throughout.
    TransparentHuge,
    /// hugetlb pages of 2 MiB.
    Huge2M,
    /// hugetlb pages of 1 GiB.
    Huge1G,
}

impl PageKind {
    /// Size of one such page in bytes. For [`PageKind::Base`] the 4 KiB of x86-64; a kernel with
    /// larger base pages shows them in [`Region::page_size`](crate::Region::page_size).
    pub const fn bytes(self) -> usize {
        match self {
            PageKind::Base => BASE,
            PageKind::TransparentHuge | PageKind::Huge2M => HUGE_2M,
            PageKind::Huge1G => HUGE_1G,
        }
    }
}

impl fmt::Display for PageKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PageKind::Base => "4 KiB pages",
            PageKind::TransparentHuge => "transparent huge pages",
            PageKind::Huge2M => "2 MiB hugetlb pages",
            PageKind::Huge1G => "1 GiB hugetlb pages",
        })
    }
}

/// Which pages a region asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum HugePages {
    /// 2 MiB hugetlb, then transparent huge pages, then base pages.
    #[default]
    Auto,
    /// 1 GiB hugetlb first, then as [`HugePages::Auto`].
    Auto1G,
    /// 2 MiB hugetlb or an error.
    Require2M,
    /// 1 GiB hugetlb or an error.
    Require1G,
    /// Base pages, even where huge ones are to be had: `--no-huge`.
    Never,
}

impl HugePages {
    /// The kinds to try, in order, and the last resort.
    pub(crate) const fn ladder(self) -> (&'static [PageKind], PageKind) {
        use PageKind::{Base, Huge1G, Huge2M, TransparentHuge};
        match self {
            HugePages::Auto => (&[Huge2M, TransparentHuge], Base),
            HugePages::Auto1G => (&[Huge1G, Huge2M, TransparentHuge], Base),
            HugePages::Require2M => (&[], Huge2M),
            HugePages::Require1G => (&[], Huge1G),
            HugePages::Never => (&[], Base),
        }
    }
}
