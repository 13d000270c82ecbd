"""Searching by Cicerone's embedded engine against faiss: the same embeddings, the same queries, one query at a time.

    cargo build --release
    python -m venv peers && peers/bin/pip install -r benches/peers/requirements.txt
    peers/bin/python benches/peers/search.py --cicerone target/release/cicerone --articles 100000 --dim 768

Cicerone makes the synthetic knowledge base (`cicerone bench kb`), builds and searches it; then faiss builds a graph
(HNSW with as many links and candidates) and a flat index over the same file. Each side runs in a process of its own, with
the same number of threads for building; recall is against faiss' flat index and Cicerone's exact search. Prints one JSON
object.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

K, LINKS, CANDIDATES, WALK = 10, 16, 100, 128  # as in src/kb/store: m, ef_construct, ef


def spread(times):
    import numpy

    return {f"p{p}": round(float(numpy.percentile(times, p)) * 1000, 4) for p in (50, 95)}


def faiss_side(stem, threads):
    import faiss
    import numpy

    faiss.omp_set_num_threads(threads)
    vectors = numpy.load(stem.with_suffix(".npy"))
    queries = numpy.load(Path(f"{stem}.queries.npy"))

    def searched(index):
        found, times = [], []
        for query in queries:
            begin = time.perf_counter()
            found.append(index.search(query[None], K)[1][0])
            times.append(time.perf_counter() - begin)
        return found, spread(times)

    flat = faiss.IndexFlatIP(vectors.shape[1])
    flat.add(vectors)
    exact, exact_ms = searched(flat)
    del flat
    graph = faiss.IndexHNSWFlat(vectors.shape[1], LINKS, faiss.METRIC_INNER_PRODUCT)
    graph.hnsw.efConstruction, graph.hnsw.efSearch = CANDIDATES, WALK
    begin = time.perf_counter()
    graph.add(vectors)
    index_s = time.perf_counter() - begin
    found, search_ms = searched(graph)
    hits = sum(len(set(a) & set(b)) for a, b in zip(found, exact))
    status = Path("/proc/self/status").read_text()
    own = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon"))
    return {
        "faiss": faiss.__version__,
        "index_s": round(index_s, 1),
        "search_ms": search_ms,
        "recall_at_10": hits / (K * len(queries)),
        "flat_ms": exact_ms,
        "own_memory_bytes": own * 1024,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cicerone", required=True, help="the program")
    parser.add_argument("--articles", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=768)
    parser.add_argument("--text-bytes", type=int, default=2000)
    parser.add_argument("--quantization", action="append", choices=["none", "int8", "binary"])
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--dir", help="where everything is made; by default a temporary directory")
    parser.add_argument("--faiss", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.faiss:
        print(json.dumps(faiss_side(Path(args.faiss), args.threads)))
        return
    with tempfile.TemporaryDirectory() as temp:
        folder = Path(args.dir or temp)
        size = ["--articles", str(args.articles), "--dim", str(args.dim), "--text-bytes", str(args.text_bytes)]
        report = {"articles": args.articles, "dim": args.dim, "cicerone": [], "faiss": None}
        for kind in args.quantization or ["none"]:
            command = [args.cicerone, "bench", "kb", "--json", "--quantization", kind, "--dir", str(folder), *size]
            report["cicerone"].append(json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)["kb"])
        stem = folder / f"synthetic-{args.articles}-{args.dim}-{args.text_bytes}-1"
        command = [sys.executable, __file__, "--cicerone", "-", "--threads", str(args.threads), "--faiss", str(stem)]
        report["faiss"] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
        print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
