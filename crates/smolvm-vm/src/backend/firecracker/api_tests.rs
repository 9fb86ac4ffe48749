//! What is sent to Firecracker, held against its own description of its API.

use std::env;

use smolvm_testkit::skip;
use yaml_rust2::{Yaml, YamlLoader};

use super::api::*;

/// Names the description: `src/firecracker/swagger/firecracker.yaml` of Firecracker's sources.
const DESCRIPTION: &str = "SMOLVM_TEST_FIRECRACKER_API";

/// One request as it is sent.
struct Sent {
    method: &'static str,
    path: String,
    body: serde_json::Value,
}

fn sent<R: Resource>(resource: &R) -> Sent {
    let body = serde_json::to_value(resource).unwrap();
    Sent { method: R::METHOD.name(), path: resource.path(), body }
}

/// One of each, with all that it can have and with as little as it can.
fn everything() -> Vec<Sent> {
    let drive = |cache_type| Drive {
        drive_id: "disk0".to_owned(),
        is_root_device: false,
        is_read_only: true,
        path_on_host: "/proc/self/fd/11".into(),
        cache_type,
    };
    let boot = |initrd_path| BootSource {
        kernel_image_path: "/proc/self/fd/10".into(),
        initrd_path,
        boot_args: "console=ttyS0".to_owned(),
    };
    let interface = |guest_mac| NetworkInterface {
        iface_id: "net0".to_owned(),
        host_dev_name: "tap0".to_owned(),
        guest_mac,
    };
    let action = |action_type| sent(&InstanceActionInfo { action_type });
    let log = |level| sent(&Logger { log_path: "/proc/self/fd/2".into(), level });
    vec![
        sent(&MachineConfiguration { vcpu_count: 32, mem_size_mib: 16384 }),
        sent(&boot(Some("/initrd.img".into()))),
        sent(&boot(None)),
        sent(&drive(CacheType::Unsafe)),
        sent(&drive(CacheType::Writeback)),
        sent(&interface(Some("52:54:00:12:34:56".to_owned()))),
        sent(&interface(None)),
        sent(&Vsock { guest_cid: 3, uds_path: "/run/smolvm/0/vsock.sock".into() }),
        sent(&EntropyDevice {}),
        log(LogLevel::Warning),
        log(LogLevel::Debug),
        sent(&Metrics { metrics_path: "/run/smolvm/0/metrics".into() }),
        action(ActionType::FlushMetrics),
        action(ActionType::InstanceStart),
        action(ActionType::SendCtrlAltDel),
        sent(&Vm { state: Running::Paused }),
        sent(&Vm { state: Running::Resumed }),
        sent(&SnapshotCreateParams {
            snapshot_path: "/vm.snap".into(),
            mem_file_path: "/vm.mem".into(),
            snapshot_type: SnapshotType::Full,
        }),
        sent(&SnapshotLoadParams {
            snapshot_path: "/vm.snap".into(),
            mem_backend: MemoryBackend {
                backend_type: BackendType::File,
                backend_path: "/vm.mem".into(),
            },
            resume_vm: true,
        }),
    ]
}

/// The description, and what of it is needed to judge a request.
struct Description(Yaml);

impl Description {
    /// What is wrong with a request, if something is.
    fn judge(&self, sent: &Sent) -> Result<(), String> {
        let paths = self.0["paths"].as_hash().unwrap();
        let template = paths.keys().find(|template| fits(template.as_str().unwrap(), &sent.path));
        let template = template.ok_or(format!("there is no {}", sent.path))?;
        let operation = &paths[template][sent.method.to_lowercase().as_str()];
        let parameters = operation["parameters"].as_vec();
        let parameters = parameters.ok_or(format!("it has no {}", sent.method))?;
        let body = parameters.iter().find(|parameter| parameter["in"].as_str() == Some("body"));
        self.check(&body.ok_or("it has no body")?["schema"], &sent.body)
    }

    fn check(&self, schema: &Yaml, value: &serde_json::Value) -> Result<(), String> {
        if let Some(reference) = schema["$ref"].as_str() {
            let name = reference.strip_prefix("#/definitions/").unwrap();
            return self.check(&self.0["definitions"][name], value);
        }
        let is_of_type = match schema["type"].as_str() {
            Some("object") => value.is_object(),
            Some("string") => value.is_string(),
            Some("boolean") => value.is_boolean(),
            Some("integer") => value.is_u64(),
            Some("array") => value.is_array(),
            other => panic!("a type that this test does not know: {other:?}"),
        };
        if !is_of_type {
            return Err(format!("{value} is no {:?}", schema["type"]));
        }
        if let Some(words) = schema["enum"].as_vec()
            && !words.iter().any(|word| word.as_str() == value.as_str())
        {
            return Err(format!("{value} is none of {words:?}"));
        }
        let number = value.as_i64().unwrap_or_default();
        if schema["minimum"].as_i64().is_some_and(|least| number < least)
            || schema["maximum"].as_i64().is_some_and(|most| number > most)
        {
            return Err(format!("{value} is out of its range"));
        }
        let Some(object) = value.as_object() else { return Ok(()) };
        for required in schema["required"].as_vec().into_iter().flatten() {
            if !object.contains_key(required.as_str().unwrap()) {
                return Err(format!("{required:?} is missing"));
            }
        }
        for (name, value) in object {
            let property = &schema["properties"][name.as_str()];
            if property.is_badvalue() {
                return Err(format!("there is no {name}"));
            }
            self.check(property, value).map_err(|reason| format!("{name}: {reason}"))?;
        }
        Ok(())
    }
}

/// Whether a path is one of those that a template such as `/drives/{drive_id}` stands for.
fn fits(template: &str, path: &str) -> bool {
    let (template, path) = (template.split('/'), path.split('/'));
    template.clone().count() == path.clone().count()
        && template.zip(path).all(|(part, given)| part.starts_with('{') || part == given)
}

#[test]
fn every_request_is_as_firecracker_describes_it() {
    let Some(path) = env::var_os(DESCRIPTION) else {
        skip(&format!("{DESCRIPTION} names no description of Firecracker's API"));
        return;
    };
    let text = fs_err::read_to_string(path).unwrap();
    let description = Description(YamlLoader::load_from_str(&text).unwrap().remove(0));
    for sent in everything() {
        let judged = description.judge(&sent);
        assert_eq!(judged, Ok(()), "{} {} {}", sent.method, sent.path, sent.body);
    }

    // What it would say to what is not so.
    let vsock = |body| Sent { method: "PUT", path: "/vsock".to_owned(), body };
    for (sent, reason) in [
        (vsock(serde_json::json!({ "guest_cid": 3 })), "\"uds_path\""),
        (vsock(serde_json::json!({ "guest_cid": 2, "uds_path": "" })), "out of its range"),
        (vsock(serde_json::json!({ "guest_cid": "3", "uds_path": "" })), "is no"),
        (vsock(serde_json::json!({ "guest_cid": 3, "uds_path": "", "x": 1 })), "there is no x"),
        (Sent { method: "PUT", path: "/vsocks".to_owned(), body: true.into() }, "no /vsocks"),
        (Sent { method: "PATCH", path: "/vsock".to_owned(), body: true.into() }, "no PATCH"),
    ] {
        let refused = description.judge(&sent).unwrap_err();
        assert!(refused.contains(reason), "{refused}");
    }
}
