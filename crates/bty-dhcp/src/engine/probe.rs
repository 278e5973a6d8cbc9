//! The question which DHCP servers there are: a DISCOVER that no REQUEST follows.

use bty_types::MacAddr;
use dhcproto::{
    Encodable, Encoder,
    v4::{DhcpOption, Flags, Message, MessageType, Opcode, OptionCode},
};

/// RFC 1542 §2.1.
const SHORTEST: usize = 300;
/// What a server is asked for, so that one which says where to boot from says it here.
const ASKED: [u8; 7] = [1, 3, 6, 54, 60, 66, 67];

/// The question of one card.
///
/// It says nothing of netboot: a server beside us that keeps a record of machines must not take us for one. And it asks for a
/// broadcast, since an answer to one address is heard by nobody else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probe {
    /// Our own card, for which a server has an address already or none to spare.
    pub mac: MacAddr,
    /// The transaction.
    pub xid: u32,
}

impl Probe {
    /// The message.
    pub fn bytes(self) -> Vec<u8> {
        let mut message = Message::default();
        message
            .set_opcode(Opcode::BootRequest)
            .set_xid(self.xid)
            .set_flags(Flags::default().set_broadcast())
            .set_chaddr(&self.mac.bytes());
        let options = message.opts_mut();
        options.insert(DhcpOption::MessageType(MessageType::Discover));
        options.insert(DhcpOption::ParameterRequestList(ASKED.map(OptionCode::from).into()));
        let mut bytes = Vec::with_capacity(SHORTEST);
        // Writing into memory has no way to fail.
        let written = message.encode(&mut Encoder::new(&mut bytes));
        debug_assert!(written.is_ok(), "encoding failed: {written:?}");
        bytes.resize(bytes.len().max(SHORTEST), 0);
        bytes
    }

    /// Whether a datagram is this question.
    pub fn is(self, datagram: &[u8]) -> bool {
        datagram.first() == Some(&1) && datagram.get(4..8) == Some(&self.xid.to_be_bytes())
    }
}
