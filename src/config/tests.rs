use super::*;

#[track_caller]
fn check(arguments: &[&str], expected: Result<(), &str>) {
    let cli = Cli::try_parse_from([&["campaignd"], arguments].concat());
    let outcome = cli
        .map_err(|error| error.to_string())
        .and_then(|cli| cli.config.routes().map(|_| ()).map_err(|error| error.to_string()));
    match (outcome, expected) {
        (Ok(()), Ok(())) => {}
        (Err(error), Err(part)) => assert!(error.contains(part), "{arguments:?}: {error}"),
        (outcome, _) => panic!("{arguments:?}: {outcome:?}"),
    }
}

#[test]
fn the_defaults_serve_the_embedded_database() {
    check(&[], Ok(()));
}

#[test]
fn what_is_wrong_names_the_variable() {
    let postgres = "--database-url=postgres://localhost/x";
    check(&["--listen=0.0.0.0:1"], Err("CAMPAIGN_INSECURE_PUBLIC"));
    check(&["--listen=0.0.0.0:1", "--insecure-public"], Ok(()));
    check(&[postgres], Err("CAMPAIGN_EMAIL_URL"));
    check(
        &[
            postgres,
            "--email-url=outbox:o",
            "--phone-url=outbox:o",
            "--interaction-url=outbox:o",
        ],
        Err("CAMPAIGN_SMS_URL"),
    );
    check(&["--email-url=smtp://localhost"], Err("CAMPAIGN_EMAIL_FROM"));
    check(
        &["--email-url=smtp://localhost", "--email-from=Shop <a@example.com>"],
        Ok(()),
    );
    check(&["--sms-url=smtp://localhost"], Err("CAMPAIGN_SMS_URL"));
    check(&["--lease=65s"], Err("CAMPAIGN_LEASE"));
    check(&["--lease=70s"], Ok(()));
    check(&["--heartbeat=41s"], Err("CAMPAIGN_HEARTBEAT"));
    check(&["--heartbeat=40s"], Ok(()));
    check(&["--lease=70s", "--max-clock-skew=6s"], Err("CAMPAIGN_MAX_CLOCK_SKEW"));
    check(&["--lease=72s", "--max-clock-skew=6s"], Ok(()));
    check(&["--max-clock-skew=0s"], Err("must be 100ms to 60s"));
    check(&["--max-clock-skew=61s"], Err("must be 100ms to 60s"));
    check(&["--statement-timeout=999ms"], Err("must be 1s to 10m"));
    check(&["--statement-timeout=11m"], Err("must be 1s to 10m"));
    check(&["--default-time-zone=US/Eastern"], Err("America/New_York"));
    check(&["--sms-hours=8-21"], Err("must be two times of the day"));
    check(&["--phone-hours=21:00-21:00"], Err("must be two times of the day"));
    check(&["--phone-hours=20:00-02:00", "--email-hours=always"], Ok(()));
    check(&["--send-timeout=5"], Err("must be a number with"));
    check(&["--schedule=15m"], Ok(()));
    for bad in ["--schedule=30s", "--schedule=7m", "--schedule=2h", "--schedule=hourly"] {
        check(&[bad], Err("must be 1m to 1h and divide an hour"));
    }
    check(&["--database-url=mysql://x"], Err("must begin with"));
}

#[test]
fn test_customers_have_an_outbox_by_default_on_the_embedded_database_only() {
    let test = |arguments: &[&str]| {
        let channels = [
            "--email-url=outbox:o",
            "--sms-url=outbox:o",
            "--phone-url=outbox:o",
            "--interaction-url=outbox:o",
        ];
        let cli = Cli::try_parse_from([&["campaignd"], &channels[..], arguments].concat()).expect("arguments");
        cli.config.routes().expect("routes").test
    };
    assert_eq!(test(&[]), Some(PathBuf::from("test-outbox")));
    assert_eq!(test(&["--test-outbox-dir=t"]), Some(PathBuf::from("t")));
    let postgres = "--database-url=postgres://localhost/x";
    assert_eq!(test(&[postgres]), None);
    assert_eq!(test(&[postgres, "--test-outbox-dir=t"]), Some(PathBuf::from("t")));
}

#[test]
fn the_secret_is_beside_the_embedded_database_and_else_where_it_is_said_to_be() {
    let secret = |arguments: &[&str]| {
        let cli = Cli::try_parse_from([&["campaignd"], arguments].concat()).expect("arguments");
        cli.config.secret_file().map_err(|error| error.to_string())
    };
    let beside = |file: &str| Ok(SecretFile::BesideDatabase(PathBuf::from(file)));
    assert_eq!(secret(&[]), beside("campaign.db.key"));
    assert_eq!(
        secret(&["--database-url=sqlite:///a/b.db?mode=rwc"]),
        beside("/a/b.db.key")
    );
    let given = "--secret-key-file=s";
    let postgres = "--database-url=postgres://localhost/x";
    for arguments in [&[given][..], &[given, postgres]] {
        assert_eq!(secret(arguments), Ok(SecretFile::Given(PathBuf::from("s"))));
    }
    let refused = secret(&[postgres]).expect_err("no secret");
    assert!(refused.contains("CAMPAIGN_SECRET_KEY_FILE"), "{refused}");
}

#[test]
fn durations_have_units() {
    for (text, milliseconds) in [("500ms", 500), ("90s", 90_000), ("5m", 300_000), ("4h", 14_400_000)] {
        assert_eq!(duration(text), Ok(Duration::from_millis(milliseconds)), "{text}");
    }
    for bad in ["", "5", "s", "0s", "-5s", "5d", "99999999999h"] {
        assert!(duration(bad).is_err(), "{bad}");
    }
}
