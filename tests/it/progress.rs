//! Showing runs: which one is meant, how far it is, and lists of them.

use campaign_automation::proto::campaign::v1 as pb;
use pb::ProgressStatus;
use tonic::Code;

use crate::support::calls::about;
use crate::support::given::{definition, email, refused};
use crate::support::{App, Backend, on_each_database};

on_each_database!(
    without_an_id_the_only_live_run_is_meant,
    percent_counts_days_that_are_finished,
    runs_are_listed_by_filter,
    runs_are_listed_page_by_page,
);

async fn without_an_id_the_only_live_run_is_meant(backend: Backend) {
    let app = App::start(backend).await;
    let one = app.timeline(definition("one", 5, vec![email(1, 13, "A")])).await;
    let two = app.timeline(definition("two", 5, vec![email(1, 13, "A")])).await;
    app.customer("anna", "Europe/London").await;
    refused(app.get("anna", 0).await, Code::NotFound, "RUN_NOT_FOUND", &[]);
    refused(app.get("nobody", 0).await, Code::NotFound, "CUSTOMER_NOT_FOUND", &[]);

    let first = app.start_run("anna", &one).await.progress_id;
    let second = app.start_run("anna", &two).await.progress_id;
    let error = refused(app.get("anna", 0).await, Code::FailedPrecondition, "AMBIGUOUS_RUN", &[]);
    assert_eq!(about(&error, "progress_id"), format!("{first},{second}"));
    for id in [first, second] {
        assert_eq!(app.get("anna", id).await.expect("a run").progress_id, id);
    }

    app.stop("anna", second, "").await.expect("stopped");
    assert_eq!(app.progress("anna").await.progress_id, first);
    app.pass_hours(1);
    app.stop("anna", first, "").await.expect("stopped");
    assert_eq!(app.progress("anna").await.progress_id, first, "the one that ended last");
    app.server.shutdown().await.expect("stopped");
}

async fn percent_counts_days_that_are_finished(backend: Backend) {
    let app = App::start(backend).await;
    let timeline = app.timeline(definition("hook", 4, vec![email(4, 0, "A")])).await;
    for customer in ["anna", "bela"] {
        app.customer(customer, "Europe/London").await;
        app.start_run(customer, &timeline).await;
    }
    for (time, day, percent) in [
        ("2026-01-05T13:00:00Z", 1, 0.0),
        ("2026-01-06T00:00:00Z", 2, 25.0),
        ("2026-01-07T00:00:00Z", 3, 50.0),
        ("2026-01-08T00:00:00Z", 4, 75.0),
        ("2026-01-09T00:00:00Z", 4, 100.0),
        ("2026-01-12T00:00:00Z", 4, 100.0),
    ] {
        app.tick_at(&[time]).await;
        let run = app.progress("anna").await;
        assert_eq!(
            (run.current_day, run.percent_complete.to_bits()),
            (day, f64::to_bits(percent)),
            "{time}"
        );
        assert_eq!(run.status() == ProgressStatus::Completed, percent > 99.0, "{time}");
        if day == 3 {
            let bela = app.progress("bela").await.progress_id;
            app.stop("bela", bela, "").await.expect("stopped");
        }
    }
    let bela = app.progress("bela").await;
    assert_eq!(bela.percent_complete.to_bits(), f64::to_bits(50.0));
    app.server.shutdown().await.expect("stopped");
}

/// Customers `a`, `B` and `c` with a run of each of two timelines, four of which are not active.
async fn six_runs(app: &App) -> [pb::Timeline; 2] {
    let one = app.timeline(definition("one", 1, vec![])).await;
    let two = app.timeline(definition("two", 5, vec![])).await;
    for customer in ["a", "B", "c"] {
        app.customer(customer, "Europe/London").await;
        app.start_run(customer, &one).await;
        app.start_run(customer, &two).await;
    }
    app.tick_at(&["2026-01-06T00:00:00Z"]).await;
    let a = app.progress("a").await.progress_id;
    app.pause("a", a, "").await.expect("paused");
    [one, two]
}

async fn runs_are_listed_by_filter(backend: Backend) {
    let app = App::start(backend).await;
    let [one, two] = six_runs(&app).await;
    let all = pb::ListProgressRequest::default;
    let of = |customer: &str| pb::ListProgressRequest {
        customer_id: customer.to_owned(),
        ..all()
    };
    let with = |status: ProgressStatus| pb::ListProgressRequest {
        status: status.into(),
        ..all()
    };
    let timeline = |timeline: &pb::Timeline| pb::ListProgressRequest {
        timeline_id: timeline.timeline_id,
        ..all()
    };
    let paused_of_two = pb::ListProgressRequest {
        timeline_id: two.timeline_id,
        ..with(ProgressStatus::Paused)
    };
    for (request, expected) in [
        (all(), "B:one B:two a:one a:two c:one c:two"),
        (of("a"), "a:one a:two"),
        (of("nobody"), ""),
        (timeline(&one), "B:one a:one c:one"),
        (with(ProgressStatus::Completed), "B:one a:one c:one"),
        (with(ProgressStatus::Paused), "a:two"),
        (with(ProgressStatus::Active), "B:two c:two"),
        (with(ProgressStatus::Stopped), ""),
        (paused_of_two, "a:two"),
    ] {
        let page = app.list_progress(request.clone()).await.expect("a page");
        assert_eq!(names(&page), expected, "{request:?}");
        assert_eq!(page.next_page_token, "");
    }
    let bad = pb::ListProgressRequest {
        customer_id: "a/b".to_owned(),
        timeline_id: -1,
        status: 9,
        page_size: -1,
        page_token: "made up".to_owned(),
    };
    let fields = ["customer_id", "timeline_id", "status", "page_size", "page_token"];
    refused(
        app.list_progress(bad).await,
        Code::InvalidArgument,
        "INVALID_FIELDS",
        &fields,
    );
    app.server.shutdown().await.expect("stopped");
}

async fn runs_are_listed_page_by_page(backend: Backend) {
    let app = App::start(backend).await;
    six_runs(&app).await;
    for page_size in [1, 2, 4, 5, 6, 1_000_000] {
        let mut request = pb::ListProgressRequest {
            page_size,
            ..Default::default()
        };
        let mut seen = Vec::new();
        loop {
            let page = app.list_progress(request.clone()).await.expect("a page");
            assert!(page.progress.len() <= usize::try_from(page_size).expect("a size"));
            seen.extend(page.progress.iter().map(name));
            if page.next_page_token.is_empty() {
                break;
            }
            request.page_token = page.next_page_token;
        }
        assert_eq!(
            seen,
            ["B:one", "B:two", "a:one", "a:two", "c:one", "c:two"],
            "{page_size}"
        );
    }

    let first = pb::ListProgressRequest {
        page_size: 2,
        ..Default::default()
    };
    let token = app.list_progress(first).await.expect("a page").next_page_token;
    let other_filter = pb::ListProgressRequest {
        customer_id: "a".to_owned(),
        page_token: token.clone(),
        ..Default::default()
    };
    let changed = pb::ListProgressRequest {
        page_token: format!("{}A", &token[..token.len() - 1]),
        ..Default::default()
    };
    let cut = pb::ListProgressRequest {
        page_token: token[..token.len() / 2].to_owned(),
        ..Default::default()
    };
    for request in [other_filter, changed, cut] {
        let answer = app.list_progress(request).await;
        refused(answer, Code::InvalidArgument, "INVALID_FIELDS", &["page_token"]);
    }
    // A page may have another size than the one before.
    let rest = pb::ListProgressRequest {
        page_size: 50,
        page_token: token,
        ..Default::default()
    };
    let rest = app.list_progress(rest).await.expect("a page");
    assert_eq!(names(&rest), "a:one a:two c:one c:two");
    app.server.shutdown().await.expect("stopped");
}

fn name(run: &pb::Progress) -> String {
    format!("{}:{}", run.customer_id, run.timeline_slug)
}

fn names(page: &pb::ListProgressResponse) -> String {
    page.progress.iter().map(name).collect::<Vec<_>>().join(" ")
}
