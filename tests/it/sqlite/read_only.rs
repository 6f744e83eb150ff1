//! A database that can't be written: the server says so when it starts.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use crate::support::process::{CAMPAIGND, check, program, run};

fn mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("permissions");
}

/// A program without the right of root to write everywhere, where the tests run as root.
fn campaignd(directory: &Path) -> Command {
    let id = Command::new("id").arg("-u").output().expect("an id").stdout;
    if id.trim_ascii() != b"0" {
        return program(CAMPAIGND, directory, &["--listen", "127.0.0.1:0"]);
    }
    let dropped = "-dac_override,-dac_read_search,-fowner";
    let arguments = [
        "--bounding-set",
        dropped,
        "--inh-caps",
        dropped,
        CAMPAIGND,
        "--listen",
        "127.0.0.1:0",
    ];
    let mut command = program("setpriv", directory, &arguments);
    command.env("PATH", "/usr/bin:/bin");
    command
}

#[test]
fn a_server_does_not_start_on_what_it_cannot_write() {
    let directory = tempfile::tempdir().expect("a directory");
    let folder = directory.path().join("data");
    std::fs::create_dir(&folder).expect("a folder");
    let (file, url) = (
        folder.join("campaign.db"),
        format!("sqlite://{}/campaign.db", folder.display()),
    );
    let start = |url: &str| {
        let mut command = campaignd(directory.path());
        command
            .env("CAMPAIGN_DATABASE_URL", url)
            .env("CAMPAIGN_EMAIL_URL", "outbox:outbox");
        run(command)
    };
    let says = ["campaign.db", "writable for this server's user"];

    // A folder in which no database can be made, and one that is not there.
    mode(&folder, 0o555);
    check(&start(&url), 1, &says);
    check(
        &start(&format!("sqlite://{}/nowhere/campaign.db", folder.display())),
        1,
        &says,
    );

    // A database that is there, first its file and then its folder.
    mode(&folder, 0o755);
    let mut migrate = program(CAMPAIGND, directory.path(), &["migrate"]);
    migrate.env("CAMPAIGN_DATABASE_URL", &url);
    check(&run(migrate), 0, &["up to date"]);
    mode(&file, 0o444);
    check(&start(&url), 1, &says);
    mode(&file, 0o644);
    mode(&folder, 0o555);
    check(&start(&url), 1, &says);
    mode(&folder, 0o755);

    // And what is no database.
    std::fs::write(&file, "x".repeat(10_000)).expect("a file");
    check(&start(&url), 1, &["campaign.db", "not a database"]);
}
