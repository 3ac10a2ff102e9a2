//! Proves the structures of `ffi` against the C headers: a C program that the headers compile says
//! where each field lies and which value each constant has.
//!
//! `MANA_RDMA_HEADERS` lists folders that hold `infiniband/verbs.h` and `infiniband/manadv.h`, with
//! colons between them; `cargo xtask test` names those of two releases of rdma-core.

use std::collections::BTreeMap;
use std::env;
use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::mem::offset_of;
use std::path::Path;
use std::process::Command;

use super::ffi;

/// A field's name in C, where it has another.
macro_rules! c_name {
    ($field:ident) => {
        stringify!($field)
    };
    ($field:ident $other:ident) => {
        stringify!($other)
    };
}

/// Where fields lie in Rust, by the C expression for the same.
macro_rules! offsets {
    ($all:ident, $c:ident = $rust:ty { $($field:ident $(= $other:ident)?),* $(,)? }) => {$(
        $all.insert(
            format!("offsetof(struct {}, {})", stringify!($c), c_name!($field $($other)?)),
            offset_of!($rust, $field),
        );
    )*};
}

/// Sizes and fields in Rust, by the C expressions for the same.
macro_rules! structures {
    ($all:ident: $($c:ident = $rust:ty { $($fields:tt)* })*) => {$(
        $all.insert(format!("sizeof(struct {})", stringify!($c)), size_of::<$rust>());
        offsets!($all, $c = $rust { $($fields)* });
    )*};
}

/// Fields of structures that later releases may make longer, at their end: the libraries are told
/// how much room there is, or which fields were filled in. They must only hold what is ours.
macro_rules! growing {
    ($all:ident: $($c:ident = $rust:ty { $($fields:tt)* })*) => {$(
        let size = size_of::<$rust>();
        $all.insert(format!("sizeof(struct {}) >= {size}", stringify!($c)), 1);
        offsets!($all, $c = $rust { $($fields)* });
    )*};
}

/// Distances of fields from the end of a structure that grows at its beginning.
macro_rules! distances {
    ($all:ident, $c:ident = $rust:ty { $($field:ident $(= $other:ident)?),* $(,)? }) => {$(
        let (c, field) = (stringify!($c), c_name!($field $($other)?));
        $all.insert(
            format!("sizeof(struct {c}) - offsetof(struct {c}, {field})"),
            size_of::<$rust>() - offset_of!($rust, $field),
        );
    )*};
}

/// Everything that must be as C has it.
fn ours() -> BTreeMap<String, usize> {
    let mut all = BTreeMap::new();
    structures! { all:
        ibv_context_ops = ffi::ContextOps { poll_cq }
        ibv_context = ffi::Context {
            device, ops, cmd_fd, async_fd, num_comp_vectors, mutex, abi_compat,
        }
        ibv_mr = ffi::Mr { context, pd, addr, length, handle, lkey, rkey }
        ibv_comp_channel = ffi::CompChannel { context, fd, refcnt }
        ibv_wq = ffi::Wq {
            context, wq_context, pd, cq, wq_num, handle, state, wq_type, post_recv, mutex, cond,
            events_completed, comp_mask,
        }
        ibv_qp_cap = ffi::QpCap {
            max_send_wr, max_recv_wr, max_send_sge, max_recv_sge, max_inline_data,
        }
        ibv_qp_init_attr = ffi::QpInitAttr {
            qp_context, send_cq, recv_cq, srq, cap, qp_type, sq_sig_all,
        }
        ibv_rx_hash_conf = ffi::RxHashConf {
            rx_hash_function, rx_hash_key_len, rx_hash_key, rx_hash_fields_mask,
        }
        ibv_device_attr = ffi::DeviceAttr {
            fw_ver, node_guid, sys_image_guid, max_mr_size, page_size_cap, vendor_id,
            vendor_part_id, hw_ver, max_qp, max_qp_wr, device_cap_flags, max_sge, max_sge_rd,
            max_cq, max_cqe, max_mr, max_pd, from_max_qp_rd_atom = max_qp_rd_atom, max_pkeys,
            local_ca_ack_delay, phys_port_cnt,
        }
        ibv_async_event = ffi::AsyncEvent { element, event_type }
        manadv_ctx_allocators = ffi::Allocators { alloc, free, data }
        manadv_qp = ffi::ManaQp { sq_buf, sq_count, sq_size, sq_id, tx_vp_offset, db_page }
        manadv_cq = ffi::ManaCq { buf, count, cq_id }
        manadv_rwq = ffi::ManaRwq { buf, count, size, wq_id, db_page }
        manadv_obj = ffi::Obj { qp, cq, rwq }
    }
    growing! { all:
        ibv_parent_domain_init_attr = ffi::ParentDomainInitAttr {
            pd, td, comp_mask, alloc, free, pd_context,
        }
        ibv_wq_init_attr = ffi::WqInitAttr {
            wq_context, wq_type, max_wr, max_sge, pd, cq, comp_mask, create_flags,
        }
        ibv_rwq_ind_table_init_attr = ffi::RwqIndTableInitAttr {
            log_ind_tbl_size, ind_tbl, comp_mask,
        }
        ibv_qp_init_attr_ex = ffi::QpInitAttrEx {
            qp_context, send_cq, recv_cq, srq, cap, qp_type, sq_sig_all, comp_mask, pd, xrcd,
            create_flags, max_tso_header, rwq_ind_tbl, rx_hash_conf, source_qpn, send_ops_flags,
        }
        ibv_device_attr_ex = ffi::DeviceAttrEx {
            orig_attr, comp_mask, from_odp_caps = odp_caps,
            max_wq_type_rq,
            packet_pacing_caps, raw_packet_caps, from_tm_caps = tm_caps,
            max_dm_size, from_pci_atomic_caps = pci_atomic_caps,
        }
        ibv_port_attr = ffi::PortAttr {
            state, max_mtu, active_mtu, from_gid_tbl_len = gid_tbl_len,
            from_pkey_tbl_len = pkey_tbl_len, from_lmc = lmc, active_width, active_speed,
            phys_state, link_layer, flags, port_cap_flags2,
        }
    }
    distances! { all, verbs_context = ffi::VerbsContext {
        query_port, from_advise_mr = advise_mr, alloc_parent_domain, from_dealloc_td = dealloc_td,
        destroy_rwq_ind_table, create_rwq_ind_table, destroy_wq, modify_wq, create_wq,
        from_query_rt_values = query_rt_values, query_device_ex,
        from_destroy_flow = ibv_destroy_flow, create_qp_ex, from_get_srq_num = get_srq_num,
        placeholder = _ABI_placeholder3, sz, context,
    } }
    for (name, value) in [
        ("__VERBS_ABI_IS_EXTENDED", ffi::ABI_IS_EXTENDED),
        ("IBV_QPT_RAW_PACKET", ffi::QPT_RAW_PACKET as usize),
        ("IBV_WQT_RQ", ffi::WQT_RQ as usize),
        (
            "IBV_PARENT_DOMAIN_INIT_ATTR_PD_CONTEXT",
            ffi::PARENT_DOMAIN_PD_CONTEXT as usize,
        ),
        ("IBV_QP_INIT_ATTR_PD", ffi::QP_INIT_PD as usize),
        (
            "IBV_QP_INIT_ATTR_IND_TABLE",
            ffi::QP_INIT_IND_TABLE as usize,
        ),
        ("IBV_QP_INIT_ATTR_RX_HASH", ffi::QP_INIT_RX_HASH as usize),
        (
            "IBV_RX_HASH_FUNC_TOEPLITZ",
            usize::from(ffi::RX_HASH_TOEPLITZ),
        ),
        (
            "IBV_RX_HASH_SRC_IPV4 | IBV_RX_HASH_DST_IPV4",
            ffi::RX_HASH_IPV4 as usize,
        ),
        (
            "MANADV_CTX_ATTR_BUF_ALLOCATORS",
            ffi::CTX_ATTR_BUF_ALLOCATORS as usize,
        ),
        ("MANADV_OBJ_QP", ffi::OBJ_QP as usize),
        ("MANADV_OBJ_CQ", ffi::OBJ_CQ as usize),
        ("MANADV_OBJ_RWQ", ffi::OBJ_RWQ as usize),
        (
            "IBV_ACCESS_LOCAL_WRITE",
            uverbs_abi::ids::ACCESS_LOCAL_WRITE as usize,
        ),
        (
            "IBV_EVENT_DEVICE_FATAL",
            uverbs_abi::ids::EVENT_DEVICE_FATAL as usize,
        ),
        (
            "IBV_EVENT_PORT_ACTIVE",
            uverbs_abi::ids::EVENT_PORT_ACTIVE as usize,
        ),
        (
            "IBV_EVENT_PORT_ERR",
            uverbs_abi::ids::EVENT_PORT_ERR as usize,
        ),
    ] {
        all.insert(name.to_owned(), value);
    }
    all
}

/// The same expressions, as the C compiler works them out from the headers in `folder`.
fn theirs(folder: &Path, names: impl Iterator<Item = String>) -> Result<Vec<usize>, String> {
    let mut program = "#include <stddef.h>\n#include <stdio.h>\n#include <infiniband/verbs.h>\n\
                       #include <infiniband/manadv.h>\nint main(void)\n{\n"
        .to_owned();
    for name in names {
        writeln!(program, "\tprintf(\"%zu\\n\", (size_t)({name}));").expect("a String takes it");
    }
    program.push_str("\treturn 0;\n}\n");
    let scratch = tempfile::tempdir().map_err(|error| error.to_string())?;
    let (source, binary) = (
        scratch.path().join("layout.c"),
        scratch.path().join("layout"),
    );
    fs::write(&source, program).map_err(|error| error.to_string())?;
    let run = |command: &mut Command| {
        let output = command
            .output()
            .map_err(|error| format!("{command:?}: {error}"))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        output.status.success().then_some(text).ok_or(errors)
    };
    run(Command::new("cc")
        .arg("-I")
        .arg(folder)
        .arg(&source)
        .arg("-o")
        .arg(&binary))?;
    let output = run(&mut Command::new(&binary))?;
    let values: Result<_, _> = output.lines().map(str::parse).collect();
    values.map_err(|error| format!("{output}: {error}"))
}

#[test]
fn structures_and_constants_are_those_of_the_c_headers() {
    let name = "provider::rdma::layout::structures_and_constants_are_those_of_the_c_headers";
    let Some(folders) = env::var_os("MANA_RDMA_HEADERS") else {
        return skip(name, "MANA_RDMA_HEADERS names no headers of rdma-core");
    };
    if let Err(error) = Command::new("cc").arg("--version").output() {
        return skip(name, &format!("no C compiler: cc: {error}"));
    }
    let ours = ours();
    let mut wrong = String::new();
    for folder in env::split_paths(&folders) {
        let theirs = theirs(&folder, ours.keys().cloned())
            .unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        assert_eq!(theirs.len(), ours.len(), "{}", folder.display());
        for ((name, ours), theirs) in ours.iter().zip(theirs) {
            if *ours != theirs {
                let folder = folder.display();
                writeln!(wrong, "{folder}: {name} is {theirs} in C, {ours} here")
                    .expect("a String takes it");
            }
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

/// As the skip of crate `conformance`, which this crate may not use.
fn skip(name: &str, reason: &str) {
    let Some(path) = env::var_os("MANA_SKIPPED_FILE") else {
        println!("skipped: {name}: {reason}");
        return;
    };
    let file = OpenOptions::new().create(true).append(true).open(path);
    let mut file = file.expect("the file of skipped tests can be opened");
    writeln!(file, "{name}\t{reason}").expect("the file of skipped tests can be written");
}
