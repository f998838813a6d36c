"""The command line of the set-up on one machine."""

import argparse
import json
import pathlib
import shutil
import signal
import sys
import tempfile
import time

import checks
import derive
from machine import FASTER_ALERTS, Machine
from processes import Programs, get

DEPLOY = pathlib.Path(__file__).resolve().parents[1]

DESCRIPTION = """\
Runs the set-up of deploy/ on this machine, without Kubernetes: a hub Prometheus, an Alertmanager,
hubgate with TLS, and a Prometheus for each spoke of deploy/clusters. Everything is derived from
what kubectl builds of the manifests; addresses, ports, paths and what is scraped are those of this
machine. Tokens and certificates come from configure-source-clusters.sh. Nothing in deploy/ changes,
and all of it listens on loopback only."""

NEEDS = """\
It needs kubectl, curl, openssl, prometheus, python3 with PyYAML, and hubgate: $HUBGATE_BIN, or one
on PATH, or what `cargo build` left in target/. $PROMETHEUS_BIN names another Prometheus; with one
of version 3, spokes send remote write V2. An Alertmanager is used if there is one on PATH.
Exit codes: 0 all is well, 1 a check failed, 2 the set-up cannot run."""


def main():
    parser = argparse.ArgumentParser(
        prog="deploy/try.sh",
        description=DESCRIPTION,
        epilog=NEEDS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--check", action="store_true", help="check the set-up in a minute, and end")
    mode.add_argument(
        "--real-times",
        action="store_true",
        help="keep the intervals and waits of the manifests, instead of seconds",
    )
    parser.add_argument(
        "--folder", type=pathlib.Path, help="keep configurations, data and logs in this new folder"
    )
    arguments = parser.parse_args()
    # As Ctrl-C, so that what runs is ended. SIGHUP is the end of the terminal.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(0))
    folder = arguments.folder or pathlib.Path(tempfile.mkdtemp(prefix="hubgate-try-"))
    try:
        return run(arguments, folder.resolve())
    except KeyboardInterrupt:
        return 0
    except (derive.Mistake, AssertionError, OSError) as error:
        print(f"try.sh: {error}", file=sys.stderr)
        return 2
    finally:
        if arguments.folder is None:
            shutil.rmtree(folder, ignore_errors=True)


def run(arguments, folder):
    programs = Programs(DEPLOY.parent)
    print("Starting the hub, hubgate and the spokes ...", flush=True)
    with Machine(DEPLOY, folder, programs, faster=not arguments.real_times) as machine:
        show_differences(machine)
        machine.wait_for_samples(seconds=180)
        show_addresses(machine)
        if arguments.check:
            return run_checks(machine)
        show_status(machine)
        print("\nCtrl-C ends all of it.", flush=True)
        return stay(machine)


def show_differences(machine):
    print("\nNot as in a cluster, beside addresses, ports, paths and what is scraped:")
    if machine.faster:
        for change in machine.changes:
            print(f"  {change}")
        for alert, (old, new, wait) in FASTER_ALERTS.items():
            print(f"  hub: {alert} has {new!r} in place of {old!r}, and waits for {wait}")
    for notice in machine.notices:
        print(f"  {notice}")


def show_addresses(machine):
    version = ".".join(map(str, machine.programs.version))
    print(f"\nPrometheus {version}: {machine.programs.prometheus}")
    rows = [("hub", f"http://{machine.hub.address}", "Prometheus of the hub, with all clusters")]
    if machine.alertmanager is not None:
        rows.append(("", f"http://{machine.addresses['alertmanager']}", "Alertmanager of the hub"))
    rows.append(("hubgate", f"https://{machine.write_address}", "for the spokes"))
    rows.append(("", f"http://{machine.admin_address}/", "its status page: how they are"))
    rows.append(("", f"http://{machine.admin_address}/metrics", "its metrics"))
    for name, spoke in machine.spokes.items():
        about = "an agent, which answers no queries" if spoke.agent else "Prometheus of the spoke"
        rows.append((name, f"http://{spoke.address}", about))
    rows.append(("files", str(machine.folder), "configurations and logs"))
    print()
    table(rows)


def table(rows):
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths))
        print("  ".join(cells).rstrip())


def show_status(machine):
    gateway = json.loads(get(machine.admin_address, "/api/v1/spokes")[1])
    known = {spoke["name"]: spoke for spoke in gateway["spokes"]}
    rows = [("SPOKE", "PROTOCOL", "LAST WRITE", "SAMPLES WRITTEN", "SERIES AT THE HUB", "REFUSALS")]
    for name in machine.spokes:
        written = sum(
            value
            for labels, value in checks.gateway_metric(machine, "hubgate_samples_written_total")
            if labels["spoke"] == name
        )
        series = machine.hub.query(f'count({{cluster="{name}"}})')
        last = known[name]["last_write_timestamp_seconds"]
        rows.append(
            (
                name,
                known[name]["protocol"] or "-",
                f"{time.time() - last:.0f} s ago" if last else "never",
                f"{written:.0f}",
                series[0]["value"][1] if series else "0",
                ", ".join(it["reason"] for it in known[name]["refusals"]) or "none",
            )
        )
    print()
    table(rows)
    for metric in ("up", "gotk_resource_info"):
        query = f"{metric}{{{checks.selector(machine)}}}"
        print(f"\n{query}")
        for series in machine.hub.query(query):
            print(f"  {shortened(series['metric'])} {series['value'][1]}")


def shortened(labels):
    """The labels of a series that tell it from others."""
    names = ("cluster", "job", "customresource_kind", "name")
    return ", ".join(f"{name}={labels[name]}" for name in names if name in labels)


def run_checks(machine):
    failed = 0
    print()
    for check in checks.CHECKS:
        since = time.monotonic()
        try:
            check(machine)
            result = "ok  "
        except (AssertionError, OSError, derive.Mistake) as error:
            failed += 1
            result = "FAIL"
            print(f"      {error}")
        took = time.monotonic() - since
        print(f"{result}  {took:5.1f} s  {checks.title(check)}", flush=True)
    print(f"\n{len(checks.CHECKS) - failed} passed, {failed} failed")
    return 1 if failed else 0


def stay(machine):
    """Returns when a program ends that should not."""
    while True:
        for process in machine.processes:
            if not process.running():
                print(f"{process.name} ended:\n{process.tail()}", file=sys.stderr)
                return 2
        time.sleep(1)


if __name__ == "__main__":
    sys.exit(main())
