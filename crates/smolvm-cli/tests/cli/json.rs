//! `--json`: one object on standard output, of the shape that docs/cli.md promises.

use serde_json::{Value, json};
use smolvm_testkit::{Fault, Route, content};

use crate::site::{Finished, KERNEL, ROOTFS, Site, kernel, rootfs};

/// The only object of a standard output.
fn object(finished: &Finished) -> Value {
    let value: Value = serde_json::from_str(&finished.stdout)
        .unwrap_or_else(|error| panic!("{error} in {finished}"));
    assert_eq!(finished.stdout.lines().count(), 1, "{finished}");
    assert_eq!(value["schema"], 1);
    assert_eq!(value["ok"], finished.code == Some(0), "{finished}");
    assert_eq!(value["ok"], value["error"].is_null(), "{finished}");
    value
}

fn run(site: &Site, line: &str) -> Value {
    object(&site.run(&format!("{line} --json")))
}

#[test]
fn every_command_prints_one_object() {
    let site = Site::with_dev();
    for line in [
        "image list",
        "image pull dev",
        "image pull dev nope",
        "image verify",
        "image verify dev",
        "image inspect dev",
        "image inspect nope",
        "image path dev",
        "image path hello",
        "image path dev --asset initrd",
        "image pin dev",
        "image pin nope",
        "image rm dev",
        "image rm ..",
        "image prune --dry-run",
        "image prune",
        "image prune --nonsense",
        "image nonsense",
        "completions bash",
    ] {
        every_field_is_documented(&run(&site, line));
    }
}

fn every_field_is_documented(value: &Value) {
    const PAGE: &str = include_str!("../../../../docs/cli.md");
    match value {
        Value::Array(items) => items.iter().for_each(every_field_is_documented),
        Value::Object(fields) => {
            for (field, value) in fields {
                let is_there =
                    PAGE.contains(&format!("`{field}`")) || PAGE.contains(&format!("\"{field}\":"));
                assert!(is_there, "docs/cli.md says nothing of {field:?}");
                every_field_is_documented(value);
            }
        }
        _ => {}
    }
}

#[test]
fn pull_says_how_each_asset_was_had() {
    let site = Site::with_dev();
    site.serve("/rootfs", Route::new(rootfs()).etag("\"r\"").fault_on(0, Fault::CutAt(1000)));
    let mut value = run(&site, "image pull dev");
    let image = &mut value["images"][0];
    assert!(image["elapsed_ms"].take().is_u64());
    assert_eq!(
        *image,
        json!({
            "name": "dev", "ok": true, "directory": "[HOME]/.smolvm/images/dev",
            "boot_args": null, "elapsed_ms": null,
            "assets": [{
                "kind": "kernel", "path": "[HOME]/.smolvm/images/dev/vmlinux.bin",
                "digest": content::sha256_hex(&kernel()), "size": KERNEL, "pinned": true,
                "outcome": "fetched", "received": KERNEL, "retries": 0,
                "damage": null, "shared_from": null,
            }, {
                "kind": "rootfs", "path": "[HOME]/.smolvm/images/dev/rootfs.ext4",
                "digest": content::sha256_hex(&rootfs()), "size": ROOTFS, "pinned": true,
                "outcome": "fetched", "received": ROOTFS, "retries": 1,
                "damage": null, "shared_from": null,
            }],
        })
    );

    let value = run(&site, "image pull dev");
    for asset in value["images"][0]["assets"].as_array().unwrap() {
        assert_eq!((&asset["outcome"], &asset["received"]), (&json!("cached"), &json!(0)));
    }
}

#[test]
fn failures_are_in_the_list_and_the_first_is_at_the_top() {
    let site = Site::with_dev();
    let value = run(&site, "image pull dev nope ..");
    assert_eq!(value["error"]["kind"], "unknown-image");
    assert_eq!(value["error"]["image"], "nope");
    let images = value["images"].as_array().unwrap();
    let brief: Vec<_> =
        images.iter().map(|i| (&i["name"], &i["ok"], &i["error"]["kind"])).collect();
    assert_eq!(
        brief,
        [
            (&json!("dev"), &json!(true), &Value::Null),
            (&json!("nope"), &json!(false), &json!("unknown-image")),
            (&json!(".."), &json!(false), &json!("usage")),
        ]
    );
}

#[test]
fn kinds_of_errors() {
    let site = Site::with_dev();
    for (line, kind) in [
        ("image nonsense", "usage"),
        ("image pull ..", "usage"),
        ("image pull nope", "unknown-image"),
        ("image pull dev --offline", "network"),
        ("image path dev", "cache"),
        ("image list --registry missing.toml", "registry"),
    ] {
        assert_eq!(run(&site, line)["error"]["kind"], kind, "{line}");
    }
    site.serve("/rootfs", Route::new(rootfs()).fault(Fault::FlipByteAt(0)));
    assert_eq!(run(&site, "image pull dev")["error"]["kind"], "verification");
}

#[test]
fn list_and_inspect_have_the_same_image() {
    let site = Site::with_dev();
    run(&site, "image pull dev");
    let list = run(&site, "image list");
    let mut listed =
        list["images"].as_array().unwrap().iter().find(|i| i["name"] == "dev").cloned().unwrap();
    let inspected = run(&site, "image inspect dev");
    let fields = listed.as_object_mut().unwrap();
    fields.remove("name");
    fields.remove("ok");
    assert_eq!(listed, inspected["image"]);
    assert_eq!(listed["registered"], true);
    assert_eq!(listed["cached"], true);
    assert!(listed["disk_bytes"].as_u64().unwrap() >= (KERNEL + ROOTFS) as u64);
    let rootfs = &listed["assets"][1];
    assert_eq!(rootfs["kind"], "rootfs");
    assert_eq!(rootfs["url"], "http://[SERVER]/rootfs");
    assert_eq!(rootfs["pin"], rootfs["digest"]);
    assert_eq!(rootfs["size"], ROOTFS);
    assert_eq!(rootfs["state"], "present");
}

#[test]
fn verify_names_the_damage() {
    let site = Site::with_dev();
    run(&site, "image pull dev");
    fs_err::remove_file(site.cache("dev/vmlinux.bin")).unwrap();
    let value = run(&site, "image verify dev");
    assert_eq!(value["error"]["kind"], "verification");
    assert_eq!(value["images"][0]["assets"][0]["state"], "missing");
    assert_eq!(value["images"][0]["assets"][1]["state"], "verified");
}

#[test]
fn paths_pins_and_removals() {
    let site = Site::with_dev();
    run(&site, "image pull dev");
    let paths = &run(&site, "image path dev")["paths"];
    assert_eq!(paths["kernel"], "[HOME]/.smolvm/images/dev/vmlinux.bin");
    assert_eq!(paths["rootfs"], "[HOME]/.smolvm/images/dev/rootfs.ext4");
    let only = &run(&site, "image path dev --asset kernel")["paths"];
    assert_eq!(only.as_object().unwrap().len(), 1);
    let pin = run(&site, "image pin dev");
    assert!(pin["toml"].as_str().unwrap().starts_with("[images."));
    assert_eq!(pin["pins"][1]["digest"], content::sha256_hex(&rootfs()));
    let removed = &run(&site, "image rm dev")["images"][0];
    assert_eq!(removed["existed"], true);
    assert!(removed["freed_bytes"].as_u64().unwrap() >= ROOTFS as u64);
    assert_eq!(run(&site, "image rm dev")["images"][0]["existed"], false);
}

#[test]
fn prune_lists_its_items() {
    let site = Site::with_dev();
    run(&site, "image pull dev");
    site.forget_registry();
    let dry = run(&site, "image prune --dry-run");
    assert_eq!(dry["dry_run"], true);
    let items = dry["items"].as_array().unwrap();
    assert_eq!(items.len(), 1, "{dry}");
    assert_eq!(items[0]["what"], "unregistered-image");
    assert_eq!(items[0]["path"], "[HOME]/.smolvm/images/dev");
    let done = run(&site, "image prune");
    assert_eq!(done["items"], dry["items"]);
    assert_eq!(done["freed_bytes"], dry["freed_bytes"]);
    assert_eq!(done["left_bytes"], dry["left_bytes"]);
    assert_eq!(done["in_use"], serde_json::json!([]));
}

#[test]
fn prune_takes_ages_and_budgets() {
    let site = Site::with_dev();
    run(&site, "image pull dev");
    for (options, goes) in [
        ("--older-than 30d", None),
        ("--max-size 1GiB", None),
        ("--unpinned", None),
        ("--older-than 0s", Some("unused-image")),
        ("--max-size 1MiB", Some("least-recently-used-image")),
        ("--max-size 0", Some("least-recently-used-image")),
    ] {
        let dry = run(&site, &format!("image prune --dry-run {options}"));
        let what = dry["items"].get(0).map(|item| item["what"].as_str().unwrap());
        assert_eq!(what, goes, "{options}: {dry}");
    }
    let pruned = run(&site, "image prune --max-size 0");
    assert!(pruned["freed_bytes"].as_u64().unwrap() >= ROOTFS as u64, "{pruned}");
    assert!(!site.cache("dev").exists());
}

#[test]
fn completions_are_one_string() {
    let value = run(&Site::new(), "completions fish");
    assert_eq!(value["shell"], "fish");
    assert!(value["script"].as_str().unwrap().contains("smolvm"));
}
