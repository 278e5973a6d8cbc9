//! `btyctl dhcp`.

use bty_api::dhcp::v1::{
    Exchange, ListExchangesRequest, ListExchangesResponse, ListLeasesRequest, ListLeasesResponse,
    ListServersRequest, ListServersResponse, WatchExchangesRequest,
    dhcp_service_client::DhcpServiceClient,
};

use crate::{
    arguments::Dhcp,
    connection::Connection,
    failure::Failure,
    output::{Output, table, time},
};

pub(crate) async fn run(
    verb: Dhcp,
    connection: &Connection,
    output: Output,
) -> Result<(), Failure> {
    let mut client = DhcpServiceClient::new(connection.local("dhcp")?);
    match verb {
        Dhcp::Log { mac, follow, limit } => {
            let request = ListExchangesRequest { mac: mac.clone(), page_size: limit };
            let mut past = client.list_exchanges(request).await?.into_inner();
            past.exchanges.reverse();
            if !follow {
                return output.show(&past, list);
            }
            for exchange in &past.exchanges {
                output.show_next(exchange, line)?;
            }
            let mut coming =
                client.watch_exchanges(WatchExchangesRequest { mac }).await?.into_inner();
            while let Some(next) = coming.message().await? {
                if let Some(exchange) = &next.exchange {
                    output.show_next(exchange, line)?;
                }
            }
            Ok(())
        }
        Dhcp::Leases => {
            let leases = client.list_leases(ListLeasesRequest {}).await?.into_inner();
            output.show(&leases, leases_table)
        }
        Dhcp::Servers => {
            let servers = client.list_servers(ListServersRequest {}).await?.into_inner();
            output.show(&servers, servers_table)
        }
    }
}

fn list(exchanges: &ListExchangesResponse) -> String {
    if exchanges.exchanges.is_empty() {
        return "nothing was heard".to_owned();
    }
    let rows = exchanges.exchanges.iter().map(|exchange| {
        [
            time(exchange.at.as_ref()),
            exchange.mac.clone(),
            asked(exchange),
            answered(exchange),
            exchange.reason.clone(),
        ]
    });
    table(["WHEN", "MACHINE", "ASKED", "ANSWERED", "WHY"], rows)
}

fn asked(exchange: &Exchange) -> String {
    let architecture =
        exchange.architecture.map(|code| format!(" arch {code}")).unwrap_or_default();
    format!("{} {}{architecture}", exchange.message, exchange.client)
}

fn answered(exchange: &Exchange) -> String {
    if exchange.answer.is_empty() {
        return "nothing".to_owned();
    }
    [&exchange.answer, &exchange.leased_address, &exchange.boot_file]
        .into_iter()
        .filter(|part| !part.is_empty())
        .map(String::as_str)
        .collect::<Vec<_>>()
        .join(" ")
}

fn line(exchange: &Exchange) -> String {
    format!(
        "{}  {}  {}  ->  {}  ({})",
        time(exchange.at.as_ref()),
        exchange.mac,
        asked(exchange),
        answered(exchange),
        exchange.reason
    )
}

fn leases_table(leases: &ListLeasesResponse) -> String {
    if leases.leases.is_empty() {
        return "no leases".to_owned();
    }
    let rows = leases.leases.iter().map(|lease| {
        [
            lease.address.clone(),
            lease.mac.clone(),
            lease.hostname.clone(),
            time(lease.expires_at.as_ref()),
            if lease.reserved { "reserved" } else { "" }.to_owned(),
        ]
    });
    table(["ADDRESS", "MACHINE", "HOSTNAME", "UNTIL", ""], rows)
}

fn servers_table(servers: &ListServersResponse) -> String {
    let hint = if servers.listening {
        ""
    } else {
        "\nOnly clients tell of other servers: bty-dhcp may not listen to these (CAP_NET_RAW)."
    };
    if servers.servers.is_empty() {
        return format!("no other server was heard{hint}");
    }
    let rows = servers.servers.iter().map(|server| {
        let boots = if server.boot_file.is_empty() { "yes" } else { &server.boot_file };
        [
            server.address.clone(),
            server.mac.clone(),
            server.interface.clone(),
            if server.leases { "yes" } else { "" }.to_owned(),
            if server.boots { boots } else { "" }.to_owned(),
            time(server.last_seen.as_ref()),
        ]
    });
    table(["SERVER", "CARD", "ON", "GIVES ADDRESSES", "SAYS WHAT TO BOOT", "LAST HEARD"], rows)
        + hint
}
