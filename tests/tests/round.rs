//! A round runs what it can at the same time, ends as it should, and tells exactly how.

use std::collections::{BTreeMap, BTreeSet};

use expect_test::expect;
use serde_json::Value;
use tests::engine::docker;
use tests::{Output, Workspace};

/// `bad` fails; `after` and `last` need it; `good` does not.
fn with_a_failure() -> Workspace {
    Workspace::new()
        .with_box()
        .image("bad", "FROM tt-box\nRUN sleep 1; echo no; false tt-\n")
        .image("after", "FROM tt-bad\n")
        .image("last", "FROM scratch\nCOPY build /\n")
        .file("src/last/build/component.dep", "after\n")
        .image("good", "FROM tt-box\nRUN sleep 3; echo tt-\n")
        .image("later", "FROM tt-good\nLABEL a=b\n")
}

fn outcomes(output: &Output) -> BTreeMap<String, String> {
    let lines = output.stderr.lines().filter_map(|line| line.split_once(" | "));
    let ends = ["built in", "up to date in", "failed in", "cancelled in", "not run", "restored in"];
    lines
        .filter(|(_, text)| ends.iter().any(|end| text.starts_with(end)))
        .map(|(name, text)| (name.trim().to_owned(), text.replace(" in [TIME]", "")))
        .chain(output.stderr.lines().flat_map(not_run))
        .collect()
}

/// Those of a line such as `note: 2 not run because bad failed: after, last`.
fn not_run(line: &str) -> Vec<(String, String)> {
    let Some((_, rest)) = line.split_once(" not run") else { return Vec::new() };
    let Some((why, names)) = rest.rsplit_once(": ").filter(|_| line.starts_with("note: ")) else {
        return Vec::new();
    };
    names.split(", ").map(|name| (name.to_owned(), format!("not run{why}"))).collect()
}

fn shown(outcomes: &BTreeMap<String, String>) -> String {
    let lines: Vec<String> =
        outcomes.iter().map(|(name, how)| format!("{name}: {how}\n")).collect();
    lines.concat()
}

#[test]
fn the_first_failure_ends_the_round() {
    let workspace = with_a_failure();
    let output = workspace.xtask(&["build", "-j", "2"]).exits_with(1);
    expect![[r#"
        after: not run because bad failed
        bad: failed
        good: cancelled
        last: not run because bad failed
        later: not run
    "#]]
    .assert_eq(&shown(&outcomes(&output)));
    expect![[r#"
        error: src/bad/build/tt-bad.dockerfile:2: image 'tt-bad' failed to build: process "/bin/sh -c sleep 1; echo no; false tt-" did not complete successfully: exit code: 1
          1 | FROM tt-box
        > 2 | RUN sleep 1; echo no; false tt-
        last log lines (target/xtask/logs/bad.log):
            no
        to reproduce: cargo xtask build -s bad
    "#]]
    .assert_eq(output.error());
}

#[test]
fn with_keep_going_all_is_built_that_can_be_and_failed_repeats_the_rest() {
    let workspace = with_a_failure();
    let output = workspace.xtask(&["build", "--keep-going"]).exits_with(1);
    expect![[r#"
        after: not run because bad failed
        bad: failed
        good: built
        last: not run because bad failed
        later: built
    "#]]
    .assert_eq(&shown(&outcomes(&output)));
    assert!(output.error().starts_with("error: src/bad/build/tt-bad.dockerfile:2: "));
    workspace.write("src/bad/build/tt-bad.dockerfile", "FROM tt-box\n");
    let output = workspace.xtask(&["build", "--failed"]).exits_with(0);
    expect![[r#"
        after: built
        bad: built
        last: built
    "#]]
    .assert_eq(&shown(&outcomes(&output)));
    let output = workspace.xtask(&["build", "--failed"]).exits_with(0);
    assert!(outcomes(&output).is_empty(), "{}", output.stderr);
}

#[test]
fn images_of_one_component_are_built_side_by_side() {
    let slow = "FROM tt-box\nRUN sleep 2; echo tt-\n";
    let workspace = Workspace::new()
        .with_box()
        .file("src/a/build/tt-one.dockerfile", slow)
        .file("src/a/build/tt-two.dockerfile", "FROM tt-box\nRUN sleep 2; echo two tt-\n")
        .file("src/a/build/tt-three.dockerfile", "FROM tt-one\n");
    let output = workspace.xtask(&["build", "-j", "2", "--progress", "json"]).exits_with(0);
    let events = events(&output);
    let place = |event: &str, part: &str| {
        events.iter().position(|e| e["event"] == event && e["task"] == part).unwrap()
    };
    assert!(place("task_started", "tt-two") < place("task_finished", "tt-one"));
    assert!(place("task_started", "tt-one") < place("task_finished", "tt-two"));
    assert!(place("task_finished", "tt-one") < place("task_started", "tt-three"));
}

fn events(output: &Output) -> Vec<Value> {
    output.stdout.lines().map(|line| serde_json::from_str(line).expect("an object")).collect()
}

#[test]
fn programs_get_every_event_as_a_line() {
    let workspace = Workspace::new()
        .with_box()
        .script("src/a/build/build-pre.sh", "#!/bin/sh\necho hook\necho error >&2\n")
        .image("a", "FROM tt-box\nRUN echo hello tt-\n");
    let output = workspace.xtask(&["build", "-j", "2", "--progress", "json"]).exits_with(0);
    assert_eq!(output.stderr, "");
    let (mut told, mut ended) = (String::new(), 0);
    for mut event in events(&output) {
        for field in ["time", "seconds", "critical_seconds", "parallelism"] {
            if event.get(field).is_some_and(Value::is_number) {
                event[field] = "[TIME]".into();
            }
        }
        // Output of a hook's two streams comes in any order, and so do the end of a context
        // and that of FROM. Only on a busy machine does anything take so long that it says how
        // far it is.
        let is_hooks = event["event"] == "log" && event["image"] == Value::Null;
        if let Some(text) = event["text"].as_str().map(with_own_base) {
            event["text"] = text.into();
        }
        let is_from = event["text"] == "[1/2] FROM docker.io/library/tt-box";
        if is_from && event["status"] == "done" {
            ended += 1;
        } else if !is_hooks
            && !["context_sent", "progress", "waiting_for"].iter().any(|it| event["event"] == **it)
        {
            let line = format!("{event}\n");
            if !told.ends_with(&line) {
                told.push_str(&line);
            }
        }
    }
    assert!(ended > 0);
    expect![[r#"
        {"components":[{"component":"a","dependencies":[],"seconds":null}],"event":"round_started","jobs":2,"time":"[TIME]","version":2}
        {"component":"a","event":"step_started","time":"[TIME]","version":2}
        {"component":"a","event":"task_started","task":"build-pre.sh","time":"[TIME]","version":2}
        {"component":"a","event":"task_finished","seconds":"[TIME]","task":"build-pre.sh","time":"[TIME]","version":2}
        {"component":"a","event":"image_stale","image":"tt-a","reasons":[{"kind":"missing","text":"image missing in the engine"}],"time":"[TIME]","version":2}
        {"component":"a","event":"task_started","task":"tt-a","time":"[TIME]","version":2}
        {"component":"a","event":"instruction","image":"tt-a","status":"started","text":"[1/2] FROM docker.io/library/tt-box","time":"[TIME]","version":2}
        {"component":"a","event":"instruction","image":"tt-a","status":"started","text":"[2/2] RUN echo hello tt-","time":"[TIME]","version":2}
        {"component":"a","event":"log","image":"tt-a","line":"hello tt-","stream":"stdout","time":"[TIME]","version":2}
        {"component":"a","event":"instruction","image":"tt-a","status":"done","text":"[2/2] RUN echo hello tt-","time":"[TIME]","version":2}
        {"component":"a","event":"task_finished","seconds":"[TIME]","task":"tt-a","time":"[TIME]","version":2}
        {"component":"a","event":"image_built","image":"tt-a","time":"[TIME]","version":2}
        {"component":"a","event":"step_finished","seconds":"[TIME]","state":"built","time":"[TIME]","version":2}
        {"built":1,"cancelled":0,"critical_path":["a"],"critical_seconds":"[TIME]","event":"round_finished","exported":0,"failed":0,"in_registry":0,"not_run":0,"outdated":0,"parallelism":"[TIME]","pulled":0,"restored":0,"seconds":"[TIME]","time":"[TIME]","up_to_date":0,"version":2}
    "#]].assert_eq(&told);
    assert!(output.stdout.contains(r#""image":null,"stream":"stderr","line":"error""#));
}

#[test]
fn quiet_says_nothing_but_what_failed() {
    let workspace = with_a_failure();
    let output = workspace.xtask(&["build", "--quiet", "-s", "good"]).exits_with(0);
    assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("", ""));
    let output = workspace.xtask(&["build", "--quiet", "-s", "bad"]).exits_with(1);
    assert!(output.stderr.starts_with("error: src/bad/"), "{}", output.stderr);
}

/// A line about `FROM`, as it is if nobody else builds. The containerd store adds the tag and the
/// digest; and where several build from the same at the same time, the engine tells all of them one
/// of the names that it has.
fn with_own_base(line: &str) -> String {
    let place = "FROM docker.io/library/";
    let name = line.split_once(place).map(|(_, name)| name.split(':').next().unwrap_or(name));
    match name.filter(|name| name.ends_with("-box")) {
        Some(_) => line.split_once(place).map_or("", |it| it.0).to_owned() + place + "tt-box",
        None => line.to_owned(),
    }
}

#[test]
fn github_gets_groups_and_annotations() {
    let workspace = with_a_failure()
        .env("GITHUB_ACTIONS", "true")
        .env("GITHUB_STEP_SUMMARY", "target/summary.md");
    let build = || workspace.xtask(&["build", "-s", "bad"]).exits_with(1);
    // What a busy machine takes too long for is shown as it comes.
    let is_whole = |output: &Output| !output.stderr.contains("::group::bad: in progress");
    let output = (0..20).map(|_| build()).find(is_whole).expect("it is done in five seconds");
    let shown = output.stderr.replace("CACHED ", "");
    let mut lines: Vec<String> = shown.lines().map(|line| with_own_base(line) + "\n").collect();
    // Newer engines look for a base, and then for what it is.
    lines.dedup();
    expect![[r#"
        ::group::bad: failed in [TIME]
        bad | building
        bad | image tt-bad: image missing in the engine
        bad | [1/2] FROM docker.io/library/tt-box
        bad | [2/2] RUN sleep 1; echo no; false tt-
        bad | no
        error: src/bad/build/tt-bad.dockerfile:2: image 'tt-bad' failed to build: process "/bin/sh -c sleep 1; echo no; false tt-" did not complete successfully: exit code: 1
          1 | FROM tt-box
        > 2 | RUN sleep 1; echo no; false tt-
        bad | failed in [TIME]
        ::endgroup::
        ::error file=src/bad/build/tt-bad.dockerfile,line=2::src/bad/build/tt-bad.dockerfile:2: image 'tt-bad' failed to build: process "/bin/sh -c sleep 1; echo no; false tt-" did not complete successfully: exit code: 1
        error: src/bad/build/tt-bad.dockerfile:2: image 'tt-bad' failed to build: process "/bin/sh -c sleep 1; echo no; false tt-" did not complete successfully: exit code: 1
          1 | FROM tt-box
        > 2 | RUN sleep 1; echo no; false tt-
        last log lines (target/xtask/logs/bad.log):
            no
        to reproduce: cargo xtask build -s bad
        finished: 0 built, 0 up to date, 1 failed in [TIME]
    "#]]
    .assert_eq(&lines.concat());
    let summary = std::fs::read_to_string(workspace.root().join("target/summary.md")).unwrap();
    assert!(summary.starts_with("**cargo xtask**: 0 built"), "{summary}");
}

#[test]
fn an_image_that_lost_its_name_is_restored() {
    let workspace = Workspace::new().image("a", "FROM scratch\nCOPY build /\n");
    let _ = workspace.xtask(&["build"]).exits_with(0);
    let name = workspace.own("tt-a");
    docker(&["tag", &name, &workspace.own("tt-kept")]);
    docker(&["rmi", &name]);
    let output = workspace.xtask(&["build"]).exits_with(0);
    assert_eq!(shown(&outcomes(&output)), "a: restored\n");
    assert!(output.stderr.contains("0 built, 0 up to date, 0 failed, 1 restored"));
}

#[test]
fn timings_are_a_page_of_their_own_and_a_trace() {
    let workspace = Workspace::new()
        .script("src/a/build/build-pre.sh", "#!/bin/sh\nsleep 1\n")
        .image("a", "FROM scratch\nCOPY build /\n")
        .image("b", "FROM tt-a\nCOPY build /\n")
        .image("c", "FROM scratch\nCOPY build /\n");
    let output = workspace.xtask(&["build", "--timings"]).exits_with(0);
    assert!(output.stderr.contains("timings: target/xtask/timings.html\n"), "{}", output.stderr);
    let read = |name: &str| {
        std::fs::read_to_string(workspace.root().join("target/xtask").join(name)).unwrap()
    };
    let page = read("timings.html");
    assert!(
        !page.contains("http:") && !page.contains("https:") && !page.contains("src="),
        "it needs nothing but itself"
    );
    let (_, data) = page.split_once("const data = ").unwrap();
    let data: Value = serde_json::from_str(data.split(";\n").next().unwrap()).unwrap();
    let steps = data["steps"].as_array().unwrap();
    let critical = |name: &str| {
        let step = steps.iter().find(|step| step["component"] == name).unwrap();
        step["critical"].as_bool().unwrap()
    };
    assert_eq!([critical("a"), critical("b"), critical("c")], [true, true, false]);
    let kinds = |name: &str| -> Vec<String> {
        let step = steps.iter().find(|step| step["component"] == name).unwrap();
        let spans = step["spans"].as_array().unwrap();
        let kinds = spans.iter().map(|span| span["kind"].as_str().unwrap().to_owned());
        // Files are read before and after, for as long as that takes.
        kinds.filter(|kind| kind != "read").collect()
    };
    assert_eq!(kinds("a"), ["hook", "send", "build"]);
    let trace: Value = serde_json::from_str(&read("timings.json")).unwrap();
    let events = trace["traceEvents"].as_array().unwrap();
    let is_work = |event: &&Value| event["ph"] == "X" && event["cat"] != "read";
    assert_eq!(events.iter().filter(is_work).count(), 7);
}

/// The events of a build, with `-j 1`.
fn events_of_one_job(workspace: &Workspace) -> Vec<Value> {
    let output = workspace.xtask(&["build", "-j", "1", "--progress", "json"]).exits_with(0);
    output.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_step_takes_as_long_as_it_works_and_not_as_long_as_it_waits() {
    let clock = "cut -d' ' -f1 /proc/uptime";
    let images = |count: usize| -> String {
        format!("FROM tt-box\nRUN echo {count} tt-; {clock}; sleep 1; {clock}\n")
    };
    let workspace = Workspace::new()
        .with_box()
        .image("one", &images(1))
        .image("two", &images(2))
        .file("src/two/build/tt-more.dockerfile", &images(3))
        // Its hook runs long before its image.
        .image("hooked", "FROM tt-two\nCOPY build /\n")
        .script("src/hooked/build/build-pre.sh", "#!/bin/sh\n");
    let events = events_of_one_job(&workspace);
    let mut running: BTreeSet<&str> = BTreeSet::new();
    let (mut slept, mut read_clock) = (BTreeMap::<&str, f64>::new(), None);
    let (mut sum, mut round) = (0.0, 0.0);
    for event in &events {
        let component = event["component"].as_str().unwrap_or_default();
        match event["event"].as_str().unwrap() {
            "step_started" | "step_resumed" => assert!(running.insert(component), "{event}"),
            "step_paused" => assert!(running.remove(component), "{event}"),
            "log" => {
                if let Ok(now) = event["line"].as_str().unwrap().parse::<f64>() {
                    match read_clock.take() {
                        Some(before) => *slept.entry(component).or_default() += now - before,
                        None => read_clock = Some(now),
                    }
                }
            }
            "step_finished" => {
                running.remove(component);
                let seconds = event["seconds"].as_f64().unwrap();
                let slept = slept.get(component).copied().unwrap_or_default();
                assert!(seconds >= slept, "{component}: {seconds} of {slept}");
                sum += seconds;
            }
            "round_finished" => round = event["seconds"].as_f64().unwrap(),
            _ => {}
        }
        assert!(running.len() <= 1, "{running:?} at the same time: {event}");
    }
    assert!(slept.values().sum::<f64>() >= 2.9, "{slept:?}");
    assert!(sum <= round, "one job worked for {sum} of {round}");
}
