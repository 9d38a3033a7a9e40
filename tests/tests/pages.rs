//! The pages of `graph --html` and `build --timings`, in Chromium: with mouse, touch and
//! keyboard, in light and dark, on paper, and with a thousand components.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tests::{Workspace, chromium, repository, sized};

/// What each script has: keys, and the components that have a class.
const TOOLS: &str = "
    const press = (key, more) => (document.activeElement ?? document.body).dispatchEvent(
        new KeyboardEvent('keydown', { key, bubbles: true, cancelable: true, ...more }));
    const type = (field, text) => { field.value = text; field.dispatchEvent(new Event('input')); };
    const point = (target, kind, more) => target.dispatchEvent(new PointerEvent(
        kind, { bubbles: true, pointerType: 'mouse', ...more }));
    const names = kind => nodes.filter((_, place) => boxes[place].classList.contains(kind)).map(node => node.name).sort();
    const place = name => nodes.findIndex(node => node.name === name);
    const focused = () => document.activeElement.id || nodes[document.activeElement.dataset.node]?.name;
    const color = (target, what) => getComputedStyle(target)[what];
";

#[derive(Clone, Copy, Debug)]
enum Scheme {
    Light,
    Dark,
}

/// Opens a page, and runs a script in it that fills `seen`.
struct Visit<'a> {
    page: &'a Path,
    hash: &'a str,
    size: (u32, u32),
    scheme: Scheme,
}

impl<'a> Visit<'a> {
    fn to(page: &'a Path) -> Self {
        Self { page, hash: "", size: (1280, 800), scheme: Scheme::Light }
    }

    fn run(&self, script: &str) -> Value {
        let script = format!(
            "<script>{{ {TOOLS} const seen = {{}}; {script}
            document.body.dataset.seen = JSON.stringify(seen); }}</script></html>"
        );
        let page = fs::read_to_string(self.page).unwrap().replace("</html>", &script);
        let visited = self.page.with_extension("visited.html");
        fs::write(&visited, page).unwrap();
        let scheme = match self.scheme {
            Scheme::Dark => "--blink-settings=preferredColorScheme=0",
            Scheme::Light => "--blink-settings=preferredColorScheme=1",
        };
        let output = chromium(&visited, self.hash, self.size, &[scheme, "--dump-dom"]);
        let dom = String::from_utf8_lossy(&output.stdout);
        let seen = dom.split("data-seen=\"").nth(1).and_then(|rest| rest.split('"').next());
        let seen = seen.expect("the script ran to its end");
        let seen = seen.replace("&quot;", "\"").replace("&lt;", "<").replace("&gt;", ">");
        serde_json::from_str(&seen.replace("&amp;", "&")).unwrap()
    }
}

/// Leaves pictures of a page in `target/screenshots/`, for eyes.
fn shoot(page: &Path, name: &str) {
    let folder = repository().join("target/screenshots");
    fs::create_dir_all(&folder).unwrap();
    for (scheme, number) in [("light", 1), ("dark", 0)] {
        let picture = folder.join(format!("{name}-{scheme}.png"));
        let setting = format!("--blink-settings=preferredColorScheme={number}");
        let file = format!("--screenshot={}", picture.display());
        assert!(chromium(page, "", (1280, 800), &[&setting, &file]).status.success());
        assert!(fs::metadata(picture).unwrap().len() > 10_000);
    }
}

fn graph_page(workspace: &Workspace, arguments: &[&str]) -> PathBuf {
    let command = [&["graph", "--html", "graph.html"], arguments].concat();
    let _ = workspace.xtask(&command).exits_with(0);
    workspace.root().join("graph.html")
}

/// A chain of three, and one that has nothing to do with them.
fn chain() -> Workspace {
    Workspace::new()
        .image("base", "FROM scratch\nCOPY build /\n")
        .image("run", "FROM tt-base\n")
        .image("web", "FROM tt-run\n")
        .file("src/50%-alone/build/tt-alone.dockerfile", "FROM scratch\nCOPY build /\n")
}

/// Points at a component, searches one, and zooms.
fn answers(components: usize) {
    let workspace = sized::write(components, 1, sized::Reads::One);
    let page = graph_page(&workspace, &[]);
    let component = sized::name(3);
    shoot(&page, &format!("graph-{components}"));
    let seen = Visit::to(&page).run(&format!(
        "seen.boxes = boxes.length;
        point(boxes[place('{component}')].querySelector('rect'), 'pointerover');
        Object.assign(seen, {{ self: names('self'), needs: names('needs'), needed: names('needed'), about: about.textContent }});
        point(svg, 'pointerleave');
        seen.after = names('lit');
        type(search, '{}');
        Object.assign(seen, {{ found: names('hit'), said: status.textContent }});
        const before = view.scale;
        svg.dispatchEvent(new WheelEvent('wheel', {{ deltaY: -500, cancelable: true, clientX: 300, clientY: 300 }}));
        seen.zoomed = view.scale < before;",
        component.to_uppercase()
    ));
    let names = |arguments: &[&str]| -> BTreeSet<String> {
        let output = workspace.xtask(&[&["graph", "--json", "-s", &component], arguments].concat());
        let json: Value = serde_json::from_str(&output.exits_with(0).stdout).unwrap();
        let all = json["components"].as_array().unwrap().clone();
        let names = all.iter().map(|it| it["component"].as_str().unwrap().to_owned());
        names.filter(|name| *name != component).collect()
    };
    assert_eq!(seen["boxes"], components);
    assert_eq!(seen["self"], json!([component]));
    assert_eq!(seen["needs"], json!(names(&[])));
    assert_eq!(seen["needed"], json!(names(&["--dependents"])));
    assert!(seen["about"].as_str().unwrap().contains(&component));
    assert_eq!(seen["after"], json!([]));
    assert_eq!(seen["found"], json!([component]));
    assert_eq!(seen["said"], "1 found");
    assert_eq!(seen["zoomed"], true);
}

#[test]
fn a_graph_of_forty_components_answers() {
    answers(40);
}

#[test]
fn a_graph_of_a_thousand_components_answers() {
    answers(1000);
}

#[test]
fn a_graph_is_used_with_the_keyboard_alone() {
    let workspace = chain();
    let page = graph_page(&workspace, &[]);
    let seen = Visit::to(&page).run(
        "seen.reached_with_tab = boxes.filter(box => box.getAttribute('tabindex') === '0').length;
        seen.label = boxes[place('run')].getAttribute('aria-label');
        press('/');
        seen.slash = focused();
        press('Escape');
        seen.walk = [focused()];
        for (const key of ['ArrowUp', 'ArrowRight', 'ArrowRight', 'ArrowRight', 'ArrowLeft']) {
            press(key);
            seen.walk.push(focused());
        }
        press('Enter');
        Object.assign(seen, { self: names('self'), needs: names('needs'), needed: names('needed'), hash: location.hash });
        seen.pressed = boxes[place('run')].getAttribute('aria-pressed');
        press('ArrowLeft');
        seen.kept = [focused(), names('self')];
        press(' ');
        seen.next = [names('self'), location.hash, boxes[place('run')].getAttribute('aria-pressed')];
        const scale = view.scale;
        press('+');
        seen.closer = view.scale < scale;
        press('0');
        seen.fitted = view.scale === scale;
        press('Escape');
        seen.end = [names('lit'), location.hash, focused()];",
    );
    assert_eq!(seen["reached_with_tab"], 1);
    assert_eq!(seen["label"], "run, depends on 1, required by 1");
    assert_eq!(seen["slash"], "search");
    assert_eq!(seen["walk"], json!(["50%-alone", "web", "run", "base", "base", "run"]));
    let (this, needs, needed) = (&seen["self"], &seen["needs"], &seen["needed"]);
    assert_eq!(json!([this, needs, needed]), json!([["run"], ["base"], ["web"]]));
    assert_eq!(json!([seen["hash"], seen["pressed"]]), json!(["#run", "true"]));
    assert_eq!(seen["kept"], json!(["web", ["run"]]));
    assert_eq!(seen["next"], json!([["web"], "#web", "false"]));
    assert_eq!(json!([seen["closer"], seen["fitted"]]), json!([true, true]));
    assert_eq!(seen["end"], json!([[], "", "web"]));
}

#[test]
fn every_component_is_reached_with_arrows() {
    let workspace = sized::write(60, 1, sized::Reads::One);
    let page = graph_page(&workspace, &["--external"]);
    let seen = Visit::to(&page).run(
        "const reached = new Set([0]), open = [0];
        while (open.length) {
            const from = open.pop();
            for (const key of Object.keys(arrows)) {
                focus(from);
                press(key);
                if (!reached.has(current)) { reached.add(current); open.push(current); }
            }
        }
        seen.missed = nodes.filter((_, place) => !reached.has(place)).map(node => node.name);",
    );
    assert_eq!(seen["missed"], json!([]));
}

#[test]
fn a_focused_component_is_in_sight_and_has_a_ring() {
    let workspace = sized::write(300, 1, sized::Reads::One);
    let page = graph_page(&workspace, &[]);
    let seen = Visit::to(&page).run(
        "press('/');
        press('Escape');
        press('ArrowDown');
        const box = document.activeElement.getBoundingClientRect(), frame = svg.getBoundingClientRect();
        seen.in_sight = box.left >= frame.left && box.right <= frame.right && box.top >= frame.top && box.bottom <= frame.bottom;
        seen.legible = view.scale <= 1.3;
        seen.ring = document.activeElement.matches(':focus-visible') && color(document.activeElement, 'outlineStyle');",
    );
    assert_eq!(seen, json!({ "in_sight": true, "legible": true, "ring": "solid" }));
}

#[test]
fn a_link_selects_a_component() {
    let workspace = chain();
    let page = graph_page(&workspace, &[]);
    let image = format!("#{}", workspace.own("tt-web"));
    for (hash, selected, said) in [
        ("", "", ""),
        ("#run", "run", ""),
        (&image, "web", ""),
        ("#50%25-alone", "50%-alone", ""),
        ("#50%-alone", "50%-alone", ""),
        ("#none", "", "no component 'none'"),
    ] {
        let seen = Visit { hash, ..Visit::to(&page) }.run(
            "Object.assign(seen, { selected: names('self').join(), said: status.textContent });
            select(place('50%-alone'));
            seen.hash = location.hash;",
        );
        let expected = json!({ "selected": selected, "said": said, "hash": "#50%25-alone" });
        assert_eq!(seen, expected, "{hash}");
    }
}

#[test]
fn a_search_goes_from_match_to_match() {
    let mut workspace = Workspace::new().image("web", "FROM scratch\nCOPY build /\n");
    for number in 1..=7 {
        workspace = workspace.image(&format!("auth-{number}"), "FROM scratch\nCOPY build /\n");
    }
    let page = graph_page(&workspace, &[]);
    let seen = Visit::to(&page).run(
        "press('/');
        type(search, 'AUTH');
        seen.steps = [status.textContent];
        const enter = more => { press('Enter', more); seen.steps.push(`${status.textContent}: ${names('self')}`); };
        for (let count = 0; count < 3; count++) enter({});
        for (let count = 0; count < 3; count++) enter({ shiftKey: true });
        enter({});
        seen.marked = names('hit').length;
        type(search, 'none');
        seen.none = [status.textContent, names('lit'), location.hash];
        press('Escape');
        seen.end = [search.value, status.textContent, svg.classList.contains('quiet')];",
    );
    assert_eq!(
        seen["steps"],
        json!([
            "7 found",
            "1 of 7: auth-1",
            "2 of 7: auth-2",
            "3 of 7: auth-3",
            "2 of 7: auth-2",
            "1 of 7: auth-1",
            "7 of 7: auth-7",
            "1 of 7: auth-1"
        ])
    );
    assert_eq!(seen["marked"], 7);
    assert_eq!(seen["none"], json!(["no matches", [], ""]));
    assert_eq!(seen["end"], json!(["", "", false]));
}

#[test]
fn a_graph_is_dragged_pinched_and_zoomed_with_buttons() {
    let workspace = chain();
    let page = graph_page(&workspace, &[]);
    let seen = Visit::to(&page).run(
        "const touch = (kind, pointerId, clientX, clientY) => point(kind === 'pointerdown' ? svg : window, kind,
            { pointerType: 'touch', pointerId, clientX, clientY });
        const below = (x, y) => {
            const { left, top } = svg.getBoundingClientRect();
            return [view.x + (x - left) * view.scale, view.y + (y - top) * view.scale].map(Math.round);
        };
        const start = below(300, 300), scale = view.scale;
        touch('pointerdown', 1, 300, 300);
        touch('pointermove', 1, 340, 330);
        seen.dragged = String(below(340, 330)) === String(start);
        touch('pointerdown', 2, 440, 330);
        const middle = below(390, 330);
        touch('pointermove', 1, 290, 330);
        touch('pointermove', 2, 490, 330);
        seen.pinched = scale / view.scale;
        seen.kept = String(below(390, 330)) === String(middle);
        touch('pointerup', 1, 290, 330);
        touch('pointerup', 2, 490, 330);
        boxes[0].dispatchEvent(new MouseEvent('click', { bubbles: true }));
        seen.not_selected = names('self');
        const close = view.scale;
        document.getElementById('out').click();
        seen.out = view.scale > close;
        document.getElementById('in').click();
        seen.in = Math.abs(view.scale - close) < 1e-9;
        document.getElementById('fit').click();
        seen.fit = view.scale === scale;",
    );
    assert_eq!(
        seen,
        json!({
            "dragged": true, "pinched": 2, "kept": true, "not_selected": [],
            "out": true, "in": true, "fit": true,
        })
    );
}

#[test]
fn details_cover_no_part_of_the_graph() {
    let workspace = chain();
    let page = graph_page(&workspace, &[]);
    for size in [(1280, 800), (600, 800), (900, 500)] {
        let seen = Visit { size, ..Visit::to(&page) }.run(
            "select(place('run'));
            const rect = selector => document.querySelector(selector).getBoundingClientRect();
            const graph = rect('main > svg'), details = rect('aside'), head = rect('header');
            seen.apart = graph.right <= details.left || graph.bottom <= details.top;
            seen.below_head = graph.top >= head.bottom && details.top >= head.bottom;
            seen.within = details.right <= innerWidth && details.bottom <= innerHeight;
            seen.large = graph.width > 300 && graph.height > 200;",
        );
        let expected = json!({ "apart": true, "below_head": true, "within": true, "large": true });
        assert_eq!(seen, expected, "{size:?}");
    }
}

#[test]
fn a_color_has_one_meaning() {
    let workspace = chain();
    let page = graph_page(&workspace, &[]);
    for scheme in [Scheme::Light, Scheme::Dark] {
        let seen = Visit { scheme, ..Visit::to(&page) }.run(
            "const samples = { up_to_date: 'fill', restored: 'fill', stale: 'fill', undecided: 'fill',
                self: 'stroke', 'line needs': 'stroke', 'line needed': 'stroke', 'line critical': 'stroke', line: 'stroke' };
            seen.colors = Object.entries(samples).map(([kind, what]) => {
                sample(kind, '');
                return color(document.querySelector('#key > :last-child svg').querySelector('rect, path'), what);
            });
            const marks = ['changed', 'affected'].map(kind => {
                sample(kind, '');
                return color(document.querySelector('#key > :last-child .mark'), 'fill');
            });
            seen.marks_differ = marks[0] !== marks[1];
            const light = text => text.match(/\\d+/g).slice(0, 3).reduce((sum, part) => sum + +part, 0) / 765;
            const box = boxes[0].querySelector('rect'), text = boxes[0].querySelector('text');
            seen.light = [color(document.body, 'backgroundColor'), color(box, 'fill'), color(text, 'fill')].map(light);",
        );
        let colors: Vec<Value> = seen["colors"].as_array().unwrap().clone();
        let distinct: BTreeSet<String> = colors.iter().map(ToString::to_string).collect();
        assert_eq!(distinct.len(), 9, "{scheme:?}: {colors:?}");
        assert_eq!(seen["marks_differ"], true);
        let light: Vec<f64> =
            seen["light"].as_array().unwrap().iter().map(|it| it.as_f64().unwrap()).collect();
        match scheme {
            Scheme::Light => assert!(light[0] > 0.9 && light[1] > 0.9 && light[2] < 0.2),
            Scheme::Dark => assert!(light[0] < 0.2 && light[1] < 0.3 && light[2] > 0.8),
        }
    }
}

#[test]
fn a_graph_is_printed_on_one_page() {
    for (name, workspace) in
        [("small", chain()), ("large", sized::write(400, 1, sized::Reads::One))]
    {
        let page = graph_page(&workspace, &[]);
        let paper = workspace.root().join("graph.pdf");
        let file = format!("--print-to-pdf={}", paper.display());
        let _ = chromium(&page, "", (1280, 800), &["--no-pdf-header-footer", &file]);
        let paper = fs::read(paper).unwrap();
        let paper = String::from_utf8_lossy(&paper);
        let pages = paper.matches("/Type /Page").count() - paper.matches("/Type /Pages").count();
        assert_eq!(pages, 1, "{name}");
        let seen = Visit::to(&page).run(
            "zoomMiddle(.5);
            dispatchEvent(new Event('beforeprint'));
            const { width, height } = svg.viewBox.baseVal;
            seen.whole = width >= allWidth - 1 && height >= allHeight - 1;
            dispatchEvent(new Event('afterprint'));
            seen.again = Math.round(svg.viewBox.baseVal.width) === Math.round(svg.clientWidth * view.scale);",
        );
        assert_eq!(seen, json!({ "whole": true, "again": true }), "{name}");
    }
}

#[test]
fn names_and_paths_are_no_markup() {
    let name = "\"'><img src=x onerror=alert(1)>&lt;";
    let workspace = Workspace::new()
        .file(&format!("src/{name}/build/tt-a.dockerfile"), "FROM scratch\nCOPY . /\n")
        .file(&format!("src/{name}/*DATA*/null"), "1");
    let _ = workspace.xtask(&["build", "--timings"]).exits_with(0);
    // A path that is the placeholder of the page's data.
    workspace.write(&format!("src/{name}/*DATA*/null"), "2");
    let page = graph_page(&workspace, &["--stale"]);
    let seen = Visit::to(&page).run(
        "select(0);
        Object.assign(seen, { images: document.images.length, title: about.querySelector('h2').textContent });
        seen.reason = about.textContent.includes('/*DATA*/null changed');",
    );
    assert_eq!(seen, json!({ "images": 0, "title": name, "reason": true }));
    let page = workspace.root().join("target/xtask/timings.html");
    let seen = Visit::to(&page).run(
        "Object.assign(seen, { images: document.images.length, name: rows[0].tr.firstChild.textContent.replace('◆ ', '') });",
    );
    assert_eq!(seen, json!({ "images": 0, "name": name }));
}

/// The data of a timings page.
fn timings(page: &Path) -> Value {
    let text = fs::read_to_string(page).unwrap();
    let (_, data) = text.split_once("const data = ").unwrap();
    serde_json::from_str(data.split(";\n").next().unwrap()).unwrap()
}

#[test]
fn a_step_waits_for_its_dependencies_and_for_a_job_where_it_does_not_work() {
    let workspace = Workspace::new()
        .script("src/a/build/build-pre.sh", "#!/bin/sh\nsleep 0.3\n")
        .image("a", "FROM scratch\nCOPY build /\n")
        .image("b", "FROM tt-a\nCOPY build /\n")
        .script("src/c/build/build-pre.sh", "#!/bin/sh\nsleep 0.3\n")
        .image("c", "FROM scratch\nCOPY build /\n")
        .image("d", "FROM scratch\nCOPY none /\n")
        .image("e", "FROM tt-d\n");
    let _ = workspace.xtask(&["build", "--timings", "-j", "1", "--keep-going"]).exits_with(1);
    let data = timings(&workspace.root().join("target/xtask/timings.html"));
    let steps = data["steps"].as_array().unwrap();
    let list = |of: &Value, key: &str| -> Vec<Value> { of[key].as_array().unwrap().clone() };
    let time = |of: &Value, key: &str| of[key].as_f64().unwrap();
    let starts: Vec<f64> = steps.iter().map(|step| time(step, "start")).collect();
    assert!(starts.is_sorted(), "{starts:?}");
    for step in steps {
        let mut parts = [list(step, "waits"), list(step, "spans")].concat();
        parts.sort_by(|one, other| time(one, "start").total_cmp(&time(other, "start")));
        let is_apart = |pair: &[Value]| time(&pair[0], "end") <= time(&pair[1], "start") + 1e-9;
        assert!(parts.windows(2).all(is_apart), "{step}");
    }
    let step = |name: &str| steps.iter().find(|step| step["component"] == name).unwrap();
    let waited = |name: &str, kind: &str| -> f64 {
        let waits = list(step(name), "waits");
        let waits = waits.iter().filter(|wait| wait["kind"] == kind);
        waits.map(|wait| time(wait, "end") - time(wait, "start")).sum()
    };
    // One of the two hooks ran while the other step waited.
    assert!(waited("a", "queue") + waited("c", "queue") >= 0.3, "{data}");
    assert!(waited("b", "dependencies") >= 0.3, "{data}");
    let failed: Vec<&Value> = steps.iter().filter(|step| step["failed"] == true).collect();
    assert_eq!(failed, [step("d")]);
    assert_eq!(step("e")["outcome"], "not run because d failed");
    assert_eq!(step("e")["spans"], json!([]));
}

/// A round of so many steps, six at a time.
fn long_round(steps: u32) -> Value {
    let span = |kind: &str, start: f64, end: f64| json!({ "kind": kind, "name": kind, "start": start, "end": end });
    let step = |number: u32| {
        let start = f64::from(number / 6);
        json!({
            "component": format!("component-{number:04}"),
            "start": start,
            "outcome": if number == 7 { "failed" } else { "built" },
            "failed": number == 7,
            "critical": number.is_multiple_of(100),
            "waits": [span("dependencies", 0.0, start / 2.0), span("queue", start / 2.0, start)],
            "spans": [span("send", start, start + 0.2), span("build", start + 0.2, start + 1.0)],
        })
    };
    json!({
        "summary": format!("{steps} built"),
        "duration": f64::from(steps / 6 + 1),
        "jobs": 6,
        "steps": (0..steps).map(step).collect::<Vec<_>>(),
    })
}

fn shows_a_round(steps: u32) {
    let workspace = Workspace::new().image("a", "FROM scratch\nCOPY build /\n");
    let _ = workspace.xtask(&["build", "--timings"]).exits_with(0);
    let page = workspace.root().join("target/xtask/timings.html");
    let text = fs::read_to_string(&page).unwrap();
    let (before, rest) = text.split_once("const data = ").unwrap();
    let (_, after) = rest.split_once(";\n").unwrap();
    let page = workspace.root().join("long.html");
    fs::write(&page, format!("{before}const data = {};\n{after}", long_round(steps))).unwrap();
    shoot(&page, &format!("timings-{steps}"));
    let seen = Visit::to(&page).run(
        "const shown = () => rows.filter(row => !row.tr.hidden).map(row => row.component);
        const listed = () => [...body.rows].map(row => row.cells[0].title);
        const count = () => find('#count').textContent;
        seen.rows = [shown().length, count()];
        seen.first = listed()[0];
        press('/');
        seen.slash = focused();
        type(filter, '0007');
        seen.filtered = [shown(), count()];
        press('Escape');
        failed.click();
        seen.failed = shown();
        failed.click();
        critical.click();
        seen.critical = shown().length;
        critical.click();
        const row = rows[7].tr;
        seen.told_apart = [row.cells[0].textContent, rows[0].tr.cells[0].textContent, rows[1].tr.cells[0].textContent];
        seen.kinds = [...row.querySelectorAll('.bar i')].map(part => part.className);
        seen.axis = [find('#axis').children.length > 2, find('#axis').firstChild.textContent];
        seen.strip = [...strip.querySelectorAll('b')].map(label => label.textContent);
        strip.focus();
        press('Home');
        press('ArrowRight');
        seen.now = strip.getAttribute('aria-valuetext');
        seen.marked = document.querySelectorAll('tr.working').length;
        document.querySelector('[data-key=component]').click();
        document.querySelector('[data-key=component]').click();
        seen.last_first = listed()[0];
        seen.sorted = document.querySelectorAll('[aria-sort]').length;
        scrollTo(0, 5000);
        seen.head_stays = Math.round(document.querySelector('thead').getBoundingClientRect().top);",
    );
    let name = |number: u32| format!("component-{number:04}");
    assert_eq!(seen["rows"], json!([steps, format!("{steps} components")]));
    assert_eq!(json!([seen["first"], seen["slash"]]), json!([name(0), "filter"]));
    assert_eq!(seen["filtered"], json!([[name(7)], format!("1 of {steps} components")]));
    assert_eq!(seen["failed"], json!([name(7)]));
    assert_eq!(seen["critical"], steps.div_ceil(100));
    let names = [format!("✗ {}", name(7)), format!("◆ {}", name(0)), name(1)];
    assert_eq!(seen["told_apart"], json!(names));
    assert_eq!(seen["kinds"], json!(["dependencies", "queue", "send", "build"]));
    assert_eq!(seen["axis"], json!([true, "0s"]));
    assert_eq!(seen["strip"][1], "up to 6 at work, of 6 jobs");
    let now = seen["now"].as_str().unwrap();
    let running = now.split(": ").nth(1).unwrap().split(", ").count();
    assert!(now.contains(" queued, 6 at work: ") && running == 6, "{now}");
    assert_eq!(seen["marked"], 6);
    assert_eq!(seen["last_first"], name(steps - 1));
    assert_eq!(seen["sorted"], 1);
    assert_eq!(seen["head_stays"], 0);
}

#[test]
fn timings_of_five_hundred_steps_are_found_sorted_and_told_apart() {
    shows_a_round(500);
}

#[test]
fn timings_of_a_thousand_steps_are_found_sorted_and_told_apart() {
    shows_a_round(1000);
}
