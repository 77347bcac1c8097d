# tools/gpu_check/report.awk -- what tools/gpu_check.sh found so far, as one JSON file and one table.
#
#     awk -f report.awk -v json=FILE -v table=FILE LEFT_OUT FAILED LINES
#
# LINES holds a flat JSON object in each line, as the stages print them; what is none, because a
# program wrote "nan" or was ended within the line, is no result but a failure.  Exits with 1 when
# something failed or budgets gave different latents, else with 3 when a target was missed.  Of the
# emulated card no speed is passed on.

BEGIN {
    # Of texts only the quotes are left when these are asked.
    one = "\"\": *(\"\"|-?(0|[1-9][0-9]*)(\\.[0-9]+)?([eE][-+]?[0-9]+)?|true|false|null)"
    flat_object = "^[{]" one "(, *" one ")*[}]$"
}

function is_flat(line) {
    gsub(/"([^"\\]|\\["\\\/bfnrt])*"/, "\"\"", line)
    return line ~ flat_object
}

function value(key,    at, rest) {
    at = index($0, "\"" key "\":")
    if (!at)
        return ""
    rest = substr($0, at + length(key) + 3)
    sub(/^ */, "", rest)
    if (rest ~ /^"/) {
        rest = substr(rest, 2)
        sub(/".*/, "", rest)
    } else {
        sub(/[,}].*/, "", rest)
        if (rest == "null")
            return ""
        if (rest ~ /^[-0-9]/)
            return rest + 0 # or it would be compared as text
    }
    return rest
}

function text(s) {
    gsub(/[^ -~]/, "?", s)
    gsub(/[\\"]/, "\\\\&", s)
    return "\"" s "\""
}

function row(list, line) { rows[list] = rows[list] line "\n" }

function larger(a, b) { return a > b ? a : b }

# Our resident step of the same size, to the one on this line.
function beside(    key) {
    key = "fp16 at " value("size")
    return key in resident ? sprintf("%.2f", resident[key] / value("step_s")) : ""
}

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

{ gsub(/[^ -~]/, "?") }

!is_flat($0) {
    failures[++n_failures] = "a line that is no result: " substr($0, 1, 160)
    next
}

{
    stage = value("stage")
    n_lines++
}

stage == "machine" {
    emulated = value("emulated") == "true"
    run = value("run")
    machine = sprintf("%s (%.1f), driver %s, CUDA %s, %s MiB; %s cores, %s GiB of RAM; commit %s, %s",
        value("card"), value("capability") / 10, value("driver"), value("cuda"),
        value("memory_mib") == "" ? "unknown" : value("memory_mib"), value("cores"), value("ram_gib"), value("commit"), value("date"))
}

stage == "end" {
    ended = 1
}

stage == "time" {
    rc = value("exit")
    row("times", sprintf("| %s | %d | %d | %s |", value("name"), value("seconds"), value("limit"),
        rc == 0 ? "" : rc == 124 ? "cut" : "exit " rc))
}

stage == "clocks" {
    row("clocks", sprintf("| %s | %d to %d | %d | %.0f | %d | %d x%d |", value("during"),
        value("sm_least_mhz"), value("sm_most_mhz"), value("memory_mhz"), value("power_w"),
        value("celsius"), value("pcie_gen"), value("pcie_width")))
}

stage == "roof" {
    row("roofs", sprintf("| %s | %.1f %s |", value("name"), value("value"), value("unit")))
}

stage == "self_test" {
    n_families++
    if (value("right") != "true") {
        n_wrong++
        failures[++n_failures] = value("family") " (" value("math") "): " value("said")
    }
}

# Off by how much of what is allowed: of each kernel the worst, and the root of the mean square.
stage == "error" {
    name = value("kernel") ", " value("math") (value("way") == "main" ? "" : ", PTX of " value("way"))
    if (value("off") == "" || value("allowed") == "")
        not_finite[name]++
    ratio = value("allowed") > 0 ? value("off") / value("allowed") : 0
    if (!(name in n_errors))
        error_name[++n_error_names] = name
    n_errors[name]++
    errors[name] += ratio * ratio
    worst_error[name] = larger(worst_error[name], ratio)
    relative[name] = larger(relative[name], value("peak") > 0 ? value("off") / value("peak") : 0)
}

# A test that was cut has begun, and no more.
stage == "test_begun" {
    name = value("name") (value("way") == "main" ? "" : ", PTX of " value("way"))
    begun[++n_begun] = name
}

stage == "test" {
    name = value("name") (value("way") == "main" ? "" : ", PTX of " value("way"))
    tested[name] = 1
    row("tests", sprintf("| %s | %d | %d | %d |", name, value("cases"), value("failed"),
        value("skipped")))
}

stage == "case" {
    failures[++n_failures] = "case " value("failed") \
        (value("way") == "main" ? "" : ", PTX of " value("way"))
}

stage == "sanitizer" {
    row("tests", sprintf("| %s of %s | | %s found | |", value("tool"), value("test"),
        value("found") == "" ? "unknown what was" : value("found")))
}

stage == "kernel" {
    of = value("of_cublas")
    norm = value("norm") == "true"
    name = value("name") " at " value("picture") \
        (value("weights") == "none" ? "" : ", " value("weights")) (norm ? ", norm" : "")
    row(value("chunk_mib") > 0 ? "chunks" : "kernels", sprintf("| %s | %d | %.1f | %.1f | %s | %s |",
        name, value("rows"), value("gflop"), value("tflops"), value("cublas_tflops"),
        of == "" ? "" : sprintf("%.0f %%", 100 * of)))
    if (of != "" && value("large") == "true" && value("chunk_mib") == 0) {
        n_large[norm]++
        n_fast[norm] += of >= 0.6
        if (!(norm in slowest) || of < slowest[norm]) {
            slowest[norm] = of
            slowest_name[norm] = name
        }
    }
}

# The step's own line comes last; of its families the large ones are shown.
stage == "family" {
    name = value("name")
    if (name == "the step") {
        all = value("ms")
        row("families", sprintf("| **%s chunks, %d: the step** | %d | **%.2f** | 100 %% | %.1f |",
            value("pack"), value("size"), value("calls"), all, value("tflops")))
        if (value("clean_ms") > 0)
            row("families", sprintf("| without events around each operator | | %.2f | | |",
                value("clean_ms")))
        for (i = 1; i <= n_family; i++)
            if (all > 0 && family_ms[i] >= all / 100)
                row("families", sprintf("| %s | %s | %.2f | %.0f %% | %.1f |", family_name[i],
                    family_calls[i], family_ms[i], 100 * family_ms[i] / all, family_tflops[i]))
        n_family = 0
    } else {
        n_family++
        family_name[n_family] = name
        family_calls[n_family] = value("calls")
        family_ms[n_family] = value("ms")
        family_tflops[n_family] = value("tflops")
    }
}

stage == "link" {
    bare = value("bare_gbps")
    of_bare = value("of_bare")
    rows["link"] = "" # the last line counts
    row("link", sprintf("bare loop %.2f GB/s, the stream %.2f GB/s, in chunks of %.0f KiB on average",
        bare, value("stream_gbps"), value("mean_chunk_kib")))
}

stage == "step" && value("refused") != "" {
    row("steps", sprintf("| %s | %s | %d | %s | refused: %s | | | | | | |", value("set"),
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

    bad = value("not_finite")
    if (bad > 0)
        failures[++n_failures] = set ", " key ": " bad " latents are not finite"
    against = value("against_db")
    if (against == "" && index($0, "\"against_db\":"))
        row("accuracy", sprintf("| %s, %s | not finite |", set, key))
    else if (against != "")
        row("accuracy", sprintf("| %s, %s | %s |", set, key,
            against >= 1000 ? "the same" : sprintf("%.1f dB", against)))

    group = key ", " value("steps") " steps, " value("precision") \
        (value("vae") == "true" ? ", whole picture" : "")
    if (!(group in n_digests))
        groups[++n_groups] = group
    else if (digest[group] != value("digest"))
        different = different "; " group
    digest[group] = value("digest")
    n_digests[group]++

    row("steps", sprintf("| %s%s | %s | %d | %s | %s | %s | %.0f | %.0f | %s | %.0f | %s |", set,
        limit > 0 ? " " limit " GB/s" : "", value("weights"), value("size"),
        value("vram_mib") + 0 ? value("vram_mib") " MiB" : "all",
        emulated ? "-" : sprintf("%.4f", seconds),
        ratio == "" || emulated ? "" : sprintf("%.3f", ratio), planned, measured,
        off == "" ? "" : sprintf("%+.2f %%", 100 * off), value("rss_peak_mib"), value("digest")))
}

stage == "torch" && value("refused") != "" {
    row("diffusers", sprintf("| plain PyTorch, %s | %d | %s | refused: %s | | |", value("way"),
        value("size"), value("dtype"), value("refused")))
}

stage == "torch" && value("refused") == "" {
    row("diffusers", sprintf("| plain PyTorch, %s | %d | %s | %.4f | %s | %.0f |", value("way"),
        value("size"), value("dtype"), value("step_s"), beside(), value("peak_mib")))
}

stage == "diffusers" && value("refused") != "" {
    row("diffusers", sprintf("| diffusers, %s | %d | | refused: %s | | |", value("way"),
        value("size"), value("refused")))
}

stage == "diffusers" && value("refused") == "" {
    row("diffusers", sprintf("| diffusers, %s | %d | %s | %.4f | %s | %.0f |", value("way"),
        value("size"), value("dtype"), value("step_s"), beside(), value("peak_mib")))
}

{
    if (emulated)
        gsub(/,"(us|ms|clean_ms|tflops|[a-z_]*_gbps|[a-z_]*_s|of_bare|of_cublas)":[^,}]*/, "")
    lines[n_lines] = $0
}

function section(list, title, head) {
    if (rows[list] == "" || (emulated && list ~ /^(kernels|chunks|families|link)$/))
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
    for (i = 1; i <= n_error_names; i++) {
        name = error_name[i]
        row("errors", sprintf("| %s | %d | %.3f | %.3f | %.2e |", name, n_errors[name],
            worst_error[name], sqrt(errors[name] / n_errors[name]), relative[name]) \
            (not_finite[name] ? " " not_finite[name] " not finite |" : ""))
    }
    for (i = 1; i <= n_begun; i++)
        if (!(begun[i] in tested))
            row("tests", sprintf("| %s | not finished | | |", begun[i]))
    if (n_families)
        row("tests", sprintf("| self-test, families and ways of multiplying | %d | %d | |",
            n_families, n_wrong))
    judge("streamed step / max(resident step, bytes / bare rate)", worst_ratio, 1.03, -1,
        worst_ratio_name)
    judge("copy rate of the stream / of a bare loop", of_bare, 0.97, 1, "")
    for (norm = 0; norm <= 1; norm++)
        judge("large " (norm ? "convolutions that apply a norm" : "kernels") " / cuBLAS fp16",
            slowest[norm], 0.6, 1,
            slowest[norm] == "" ? "" : slowest_name[norm] "; " n_fast[norm] " of " n_large[norm] \
                " hold it")
    judge("memory measured / planned - 1", worst_off, 0.01, -1, worst_off_name)
    for (i = 1; i <= n_groups; i++)
        if (n_digests[groups[i]] == 1)
            alone = alone "; " groups[i]
        else
            compared += n_digests[groups[i]]
    same = different != "" ? "DIFFERENT: " substr(different, 3) : compared ? "the same" : "not compared"
    if (compared && alone != "")
        same = same "; not compared, for want of another: " substr(alone, 3)

    print "# GPU check: " run "\n" >table
    if (!ended)
        print "**Not finished: what was found so far.**\n" >table
    if (emulated)
        print "**This is the emulated card: this machine's processor, trying the check itself.  " \
            "No figure here is a GPU's.**\n" >table
    print machine >table
    section("targets", "Targets", "| | target | reached | worst at | |\n|---|---|---|---|---|\n")
    printf "\nLatents of all budgets: %s.\n", same >table
    list_of("Failed", failures, n_failures)
    list_of("Left out", left_out, n_left_out)
    section("tests", "Tests", "| | cases | failed | skipped |\n|---|---|---|---|\n")
    section("errors", "How far from the referee",
        "| | comparisons | worst / allowed | rms / allowed | worst / largest value |\n" \
        "|---|---|---|---|---|\n")
    section("roofs", "Roofs", "| | |\n|---|---|\n")
    section("families", "Where a resident step goes, by CUDA's events",
        "| | calls | ms | share | TFLOP/s |\n|---|---|---|---|---|\n")
    section("link", "Link", "")
    section("kernels", "Kernels, whole matrices",
        "| | rows | GFLOP | TFLOP/s | cuBLAS | ratio |\n|---|---|---|---|---|---|\n")
    section("chunks", "Kernels, the rows of one chunk",
        "| | rows | GFLOP | TFLOP/s | cuBLAS | ratio |\n|---|---|---|---|---|---|\n")
    section("steps", "Steps of the " (emulated ? "tiny" : "full-size") " model, random weights",
        "| weights from | | size | --vram | s | of bound | planned MiB | measured | off | process MiB " \
        "| latents |\n|---|---|---|---|---|---|---|---|---|---|---|\n")
    section("accuracy", "Latents against those in f32", "| | |\n|---|---|\n")
    section("diffusers", "The same step elsewhere",
        "| | size | | s | our resident step / this | peak MiB |\n|---|---|---|---|---|---|\n")
    section("clocks", "The card meanwhile",
        "| | SM MHz | memory MHz | W | C | PCIe |\n|---|---|---|---|---|---|\n")
    section("times", "Stages", "| | s | at most | |\n|---|---|---|---|\n")

    printf("{\"run\":%s,\"finished\":%s,\"emulated\":%s,\"latents\":%s", text(run),
        (ended ? "true" : "false"), (emulated ? "true" : "false"), text(same)) >json
    json_list("targets", targets, n_targets, 0)
    json_list("failed", failures, n_failures, 1)
    json_list("left_out", left_out, n_left_out, 1)
    json_list("results", lines, n_lines, 0)
    print "}" >json
    exit n_failures > 0 || different != "" ? 1 : missed > 0 ? 3 : 0
}
