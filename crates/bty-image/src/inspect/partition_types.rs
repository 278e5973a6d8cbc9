//! What types of partitions tell of a system: those of its own, by the Discoverable Partitions Specification and each system's manual.

/// What a type tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Known {
    /// What it is called.
    pub(super) name: &'static str,
    /// The family of the operating system.
    pub(super) os: &'static str,
    /// The processor that the partition's programs are for.
    pub(super) architecture: Option<&'static str>,
}

/// Type, system, processor, name. Types that several systems use (an ESP, Microsoft's basic data, NTFS) tell nothing.
const TYPES: [(&str, &str, Option<&str>, &str); 33] = [
    ("0fc63daf-8483-4772-8e79-3d69d8477de4", "linux", None, "Linux data"),
    ("0657fd6d-a4ab-43c4-84e5-0933c84b4f4f", "linux", None, "Linux swap"),
    ("e6d6d379-f507-44c2-a23c-238f2a3df928", "linux", None, "Linux LVM"),
    ("a19d880f-05fc-4d3b-a006-743f0f84911e", "linux", None, "Linux RAID"),
    ("bc13c2ff-59e6-4262-a352-b275fd6f7172", "linux", None, "Linux extended boot"),
    ("933ac7e1-2eb4-4f13-b844-0e14e2aef915", "linux", None, "Linux home"),
    ("3b8f8425-20e0-4f3b-907f-1a25a76f98e8", "linux", None, "Linux server data"),
    ("4f68bce3-e8cd-4db1-96e7-fbcaf984b709", "linux", Some("x86_64"), "Linux root (x86-64)"),
    ("44479540-f297-41b2-9af7-d131d5f0458a", "linux", Some("i686"), "Linux root (x86)"),
    ("b921b045-1df0-41c3-af44-4c6f280d3fae", "linux", Some("aarch64"), "Linux root (ARM 64-bit)"),
    ("69dad710-2ce4-4e3c-b16c-21a1d49abed3", "linux", Some("armv7l"), "Linux root (ARM 32-bit)"),
    (
        "72ec70a6-cf74-40e6-bd49-4bda08e8f224",
        "linux",
        Some("riscv64"),
        "Linux root (RISC-V 64-bit)",
    ),
    ("8484680c-9521-48c6-9c11-b0720656f69e", "linux", Some("x86_64"), "Linux /usr (x86-64)"),
    ("b0e01050-ee5f-4390-949a-9101b17104e9", "linux", Some("aarch64"), "Linux /usr (ARM 64-bit)"),
    ("e3c9e316-0b5c-4db8-817d-f92df00215ae", "windows", None, "Microsoft reserved"),
    ("de94bba4-06d1-4d40-a16a-bfd50179d6ac", "windows", None, "Windows recovery"),
    ("5808c8aa-7e8f-42e0-85d2-e1e90434cfb3", "windows", None, "Windows dynamic disk"),
    ("83bd6b9d-7f41-11dc-be0b-001560b84f0f", "freebsd", None, "FreeBSD boot"),
    ("516e7cb4-6ecf-11d6-8ff8-00022d09712b", "freebsd", None, "FreeBSD data"),
    ("516e7cb5-6ecf-11d6-8ff8-00022d09712b", "freebsd", None, "FreeBSD swap"),
    ("516e7cb6-6ecf-11d6-8ff8-00022d09712b", "freebsd", None, "FreeBSD UFS"),
    ("516e7cba-6ecf-11d6-8ff8-00022d09712b", "freebsd", None, "FreeBSD ZFS"),
    ("49f48d5a-b10e-11dc-b99b-0019d1879648", "netbsd", None, "NetBSD FFS"),
    ("49f48d32-b10e-11dc-b99b-0019d1879648", "netbsd", None, "NetBSD swap"),
    ("824cc7a0-36a8-11e3-890a-952519ad3f61", "openbsd", None, "OpenBSD data"),
    ("7c3457ef-0000-11aa-aa11-00306543ecac", "macos", None, "Apple APFS"),
    ("48465300-0000-11aa-aa11-00306543ecac", "macos", None, "Apple HFS+"),
    ("82", "linux", None, "Linux swap"),
    ("83", "linux", None, "Linux"),
    ("8e", "linux", None, "Linux LVM"),
    ("a5", "freebsd", None, "FreeBSD"),
    ("a6", "openbsd", None, "OpenBSD"),
    ("a9", "netbsd", None, "NetBSD"),
];

/// What this type tells: a GUID in lower case, or two hexadecimal digits.
pub(super) fn known(kind: &str) -> Option<Known> {
    let found = TYPES.iter().find(|(known, ..)| *known == kind)?;
    let (_, os, architecture, name) = *found;
    Some(Known { name, os, architecture })
}
