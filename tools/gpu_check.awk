# tools/gpu_check.awk -- what tools/gpu_check.sh found, as one JSON file and one table.
#
#     awk -f gpu_check.awk -v json=FILE -v table=FILE LEFT_OUT FAILED LINES
#
# LINES holds a flat JSON object in each line, as the stages print them.  Exits with 1 when a target
# was missed or budgets gave different latents.  Of the emulated card no speed is passed on.

function value(key,    at, rest) {
    at = index($0, "\"" key "\":")
    if (!at)
        return ""
    rest = substr($0, at + length(key) + 3)
    if (rest ~ /^"/) {
        rest = substr(rest, 2)
        sub(/".*/, "", rest)
    } else {
        sub(/[,}].*/, "", rest)
        if (rest ~ /^[-0-9]/)
            return rest + 0 # or it would be compared as text
    }
    return rest
}

function text(s) {
    gsub(/[\\"]/, "\\\\&", s)
    return "\"" s "\""
}

function row(list, line) { rows[list] = rows[list] line "\n" }

function larger(a, b) { return a > b ? a : b }

# A target: what was reached, against what was to be.  kind: at least (1) or at most (-1).
function judge(name, reached, limit, kind, where, verdict) {
    if (reached == "" || emulated) {
        verdict = "not measured"
    } else {
        verdict = kind * reached >= kind * limit ? "held" : "missed"
        missed += verdict == "missed"
    }
    n_targets++
    targets[n_targets] = sprintf("{\"target\":%s,\"limit\":%s,\"reached\":%s,\"where\":%s,\"verdict\":%s}",
        text(name), limit, verdict == "not measured" ? "null" : reached, text(where), text(verdict))
    row("targets", sprintf("| %s | %s %s | %s | %s | %s |", name, kind > 0 ? "at least" : "at most",
        limit, verdict == "not measured" ? "-" : sprintf("%.3f", reached), where, verdict))
}

FILENAME == ARGV[1] { left_out[++n_left_out] = $0; next }
FILENAME == ARGV[2] { failures[++n_failures] = $0; next }

{
    stage = value("stage")
    n_lines++
}

stage == "machine" {
    emulated = value("emulated") == "true"
    machine = sprintf("%s, driver %s, CUDA %s, %s MiB; %s cores, %s GiB of RAM; commit %s, %s",
        value("card"), value("driver"), value("cuda"), value("memory_mib"), value("cores"),
        value("ram_gib"), value("commit"), value("date"))
}

stage == "test" {
    row("tests", sprintf("| %s | %d | %d | %d |", value("name"), value("cases"), value("failed"),
        value("skipped")))
}

stage == "sanitizer" {
    row("tests", sprintf("| %s of %s | | %d errors | |", value("tool"), value("test"),
        value("errors")))
}

stage == "kernel" {
    of = value("of_cublas")
    name = value("name") " at " value("picture") \
        (value("weights") == "none" ? "" : ", " value("weights")) \
        (value("norm") == "true" ? ", norm" : "")
    row("kernels", sprintf("| %s | %.1f | %.1f | %s | %s |", name, value("gflop"), value("tflops"),
        value("cublas_tflops"), of == "" ? "" : sprintf("%.0f %%", 100 * of)))
    if (of != "" && value("large") == "true") {
        n_large++
        n_fast += of >= 0.6
        if (slowest == "" || of < slowest) {
            slowest = of
            slowest_name = name
        }
    }
}

stage == "link" {
    bare = value("bare_gbps")
    of_bare = value("of_bare")
    row("link", sprintf("bare loop %.2f GB/s, the stream %.2f GB/s, in chunks of %.0f KiB on average",
        bare, value("stream_gbps"), value("mean_chunk_kib")))
}

stage == "step" && value("refused") != "" {
    row("steps", sprintf("| %s | %s | %d | %s | refused: %s | | | | | |", value("set"),
        value("weights"), value("size"), value("vram_mib") + 0 ? value("vram_mib") " MiB" : "all",
        value("refused")))
}

stage == "step" && value("refused") == "" {
    set = value("set")
    key = value("weights") " at " value("size")
    seconds = value("step_s")
    copied = value("copy_bytes_per_step")
    limit = value("link_limit")
    if (set == "resident" && copied == 0)
        resident[key] = seconds

    # Bound: compute with everything resident, or the bytes over the link, whichever takes longer.
    ratio = ""
    rate = limit > 0 && (bare == "" || limit < bare) ? limit : bare
    if (rate != "" && copied > 0 && key in resident) {
        ratio = seconds / larger(resident[key], copied / (rate * 1e9))
        if ((set == "ram" || set == "link") && ratio > worst_ratio) {
            worst_ratio = ratio
            worst_ratio_name = key (limit > 0 ? " over " limit " GB/s" : "")
        }
    }

    off = ""
    planned = value("planned_mib")
    measured = value("measured_mib")
    if (measured > 0) {
        off = measured / planned - 1
        if (worst_off == "" || larger(off, -off) > worst_off) {
            worst_off = larger(off, -off)
            worst_off_name = set ", " key ", " value("vram_mib") " MiB"
        }
    }

    group = key " " value("vae") " " value("steps")
    if (group in digest && digest[group] != value("digest"))
        different = different " " group
    digest[group] = value("digest")
    n_digests++

    row("steps", sprintf("| %s%s | %s | %d | %s | %s | %s | %.0f | %.0f | %s | %s |", set,
        limit > 0 ? " " limit " GB/s" : "", value("weights"), value("size"),
        value("vram_mib") + 0 ? value("vram_mib") " MiB" : "all",
        emulated ? "-" : sprintf("%.4f", seconds),
        ratio == "" || emulated ? "" : sprintf("%.3f", ratio), planned, measured,
        off == "" ? "" : sprintf("%+.2f %%", 100 * off), value("digest")))
}

stage == "diffusers" && value("refused") != "" {
    row("diffusers", sprintf("| %s | %d | | refused: %s | |", value("way"), value("size"),
        value("refused")))
}

stage == "diffusers" && value("refused") == "" {
    row("diffusers", sprintf("| %s | %d | %s | %.4f | %.0f |", value("way"), value("size"),
        value("dtype"), value("step_s"), value("peak_mib")))
}

{
    if (emulated)
        gsub(/,"(us|tflops|[a-z_]*_gbps|[a-z_]*_s|of_bare|of_cublas)":[^,}]*/, "")
    lines[n_lines] = $0
}

function section(list, title, head) {
    if (rows[list] == "" || (emulated && (list == "kernels" || list == "link")))
        return
    printf "\n## %s\n\n%s%s", title, head, rows[list] >table
}

function list_of(title, items, n,    i) {
    if (n)
        printf "\n## %s\n\n", title >table
    for (i = 1; i <= n; i++)
        print "* " items[i] >table
}

function json_list(name, items, n, are_text,    i) {
    printf ",\n\"%s\":[", name >json
    for (i = 1; i <= n; i++)
        printf("%s\n%s", (i > 1 ? "," : ""), (are_text ? text(items[i]) : items[i])) >json
    printf "]" >json
}

END {
    judge("streamed step / max(resident step, bytes / bare rate)", worst_ratio, 1.03, -1,
        worst_ratio_name)
    judge("copy rate of the stream / of a bare loop", of_bare, 0.97, 1, "")
    judge("large kernels / cuBLAS fp16", slowest, 0.6, 1,
        slowest == "" ? "" : slowest_name "; " n_fast " of " n_large " hold it")
    judge("memory measured / planned - 1", worst_off, 0.01, -1, worst_off_name)
    same = n_digests == 0 ? "not measured" : different == "" ? "the same" : "DIFFERENT:" different

    print "# GPU check\n" >table
    if (emulated)
        print "**This is the emulated card: this machine's processor, trying the check itself.  " \
            "No figure here is a GPU's.**\n" >table
    print machine >table
    section("targets", "Targets", "| | target | reached | worst at | |\n|---|---|---|---|---|\n")
    printf "\nLatents of all budgets: %s.\n", same >table
    list_of("Failed", failures, n_failures)
    list_of("Left out", left_out, n_left_out)
    section("tests", "Tests", "| | cases | failed | skipped |\n|---|---|---|---|\n")
    section("link", "Link", "")
    section("kernels", "Kernels",
        "| | GFLOP | TFLOP/s | cuBLAS | ratio |\n|---|---|---|---|---|\n")
    section("steps", "Steps of the " (emulated ? "tiny" : "full-size") " model, random weights",
        "| weights from | | size | --vram | s | of bound | planned MiB | measured | off | latents |\n" \
        "|---|---|---|---|---|---|---|---|---|---|\n")
    section("diffusers", "The same step in diffusers",
        "| | size | | s | peak MiB |\n|---|---|---|---|---|\n")

    printf("{\"emulated\":%s,\"latents\":%s", (emulated ? "true" : "false"), text(same)) >json
    json_list("targets", targets, n_targets, 0)
    json_list("failed", failures, n_failures, 1)
    json_list("left_out", left_out, n_left_out, 1)
    json_list("results", lines, n_lines, 0)
    print "}" >json
    exit (missed > 0 || different != "")
}
