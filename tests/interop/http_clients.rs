//! HTTP: curl, as somebody who fetches an image by hand.

use std::fs;

use anyhow::{Result, ensure};
use bty_testkit::appliance::{DhcpMode, text};
use bty_tests::{appliance, content, with_logs};

#[test]
fn an_image_resumes_where_it_was_cut_and_only_if_it_is_still_the_same() -> Result<()> {
    with_logs(appliance(DhcpMode::Proxy)?, |appliance| {
        let raw = appliance.folder().join("image.raw");
        fs::write(&raw, content(3 << 20))?;
        appliance.import(&raw, "plain")?;
        let shown = appliance.btyctl(&["image", "show", "plain"])?;
        let id = text(&shown, "/image/id")?;
        let url = format!("http://10.77.0.1/images/{}.img.zst", id.trim_start_matches("blake3:"));
        let host = appliance.lan().add_host("http", "10.77.0.20/24")?;
        let (whole, part) = (appliance.folder().join("whole"), appliance.folder().join("part"));
        host.program("curl").args(["-sSf", "-o"]).arg(&whole).arg(&url).run()?;
        let served = fs::read(&whole)?;
        fs::write(&part, served.get(..served.len() / 3).unwrap_or_default())?;
        host.program("curl").args(["-sSf", "-C", "-", "-o"]).arg(&part).arg(&url).run()?;
        ensure!(fs::read(&part)? == served, "the resumed file is another one");

        let headers = host.program("curl").args(["-sSfI", &url]).run()?.to_lowercase();
        ensure!(headers.contains(&format!("content-length: {}\r\n", served.len())), "{headers}");
        ensure!(!headers.contains("content-encoding"), "{headers}");
        let ask = |headers: &[&str]| -> Result<String> {
            let headers = headers.iter().flat_map(|header| ["-H", header]);
            host.program("curl")
                .args(["-sS", "-o", "/dev/null", "-w", "%{http_code} %{size_download}"])
                .args(headers)
                .arg(&url)
                .run()
        };
        let all = format!("200 {}", served.len());
        ensure!(ask(&["Range: bytes=10-19"])?.trim() == "206 10");
        ensure!(ask(&["Range: bytes=10-19", "If-Range: \"another\""])?.trim() == all);
        ensure!(ask(&["Range: bytes=999999999-"])?.trim().starts_with("416"));
        ensure!(ask(&["Accept-Encoding: gzip, zstd"])?.trim() == all);
        Ok(())
    })
}
