"""Encoding by Cicerone against PyTorch: the same architecture, random weights, f32, the same number of threads.

    cargo build --release
    python -m venv peers && peers/bin/pip install -r benches/peers/requirements.txt
    peers/bin/python benches/peers/encode.py --cicerone target/release/cicerone --threads 2 --model clip-vit-l-14

Both sides get tokens and pixels and give unit vectors: two towers with the hidden states of the sampled layers, and the
ReT-2 cell above them. PyTorch's towers are those of `transformers` with its scaled-dot-product attention, or timm's, in
inference mode; its cell is written as the paper writes it. Each side runs in a process of its own, in turns; the fastest of all
runs of a batch counts, and the larger of the peaks of memory. Prints one JSON object.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

BATCHES = [1, 8, 32]
SECONDS, RUNS = 4.0, 2  # as in src/cli/bench/encode.rs


def efficientnet_lite0(fields):
    import timm
    import torch
    from torch import nn
    from torch.nn import functional as f

    class Lite0(nn.Module):
        """timm's tower, its blocks' maps as tokens: averaged down to `max_grid` a side, as the starter samples them."""

        def __init__(self):
            super().__init__()
            self.net = timm.create_model("tf_efficientnet_lite0", pretrained=False, num_classes=0)

        def forward(self, pixel_values, output_hidden_states):
            xs = self.net.bn1(self.net.conv_stem(pixel_values))
            hidden = [None]
            for block in (block for stage in self.net.blocks for block in stage):
                xs = block(xs)
                hidden.append(xs)
            pooled = self.net.bn2(self.net.conv_head(xs)).mean((2, 3))
            return Features(hidden, pooled)

    class Features:
        """The maps that are asked for become tokens."""

        def __init__(self, maps, pooled):
            self.maps, self.pooler_output, self.hidden_states = maps, pooled, self

        def __getitem__(self, layer):
            factor = -(-self.maps[layer].shape[-1] // fields["max_grid"])
            return f.avg_pool2d(self.maps[layer], factor).flatten(2).transpose(1, 2)

    return Lite0()


def towers(config):
    from transformers import (BertConfig, BertModel, CLIPTextConfig, CLIPTextModel, CLIPVisionConfig, CLIPVisionModel,
                              Dinov2Config, Dinov2Model)
    kinds = {
        ("text", "clip"): (CLIPTextConfig, CLIPTextModel), ("vision", "clip"): (CLIPVisionConfig, CLIPVisionModel),
        ("text", "bert"): (BertConfig, BertModel), ("vision", "dinov2"): (Dinov2Config, Dinov2Model),
    }
    made = []
    for side in ("text", "vision"):
        fields = dict(config[side])
        if fields["kind"] == "efficientnet_lite0":
            made.append(efficientnet_lite0(fields))
            continue
        make_config, make_model = kinds[side, fields.pop("kind")]
        made.append(make_model._from_config(make_config(**fields), attn_implementation="sdpa"))
    return made


def ret2(config):
    import torch
    from torch import nn
    from torch.nn import functional as f

    class Step(nn.Module):
        """Cross attention over one modality, and its gates."""

        def __init__(self, width, heads):
            super().__init__()
            self.heads, self.norm = heads, nn.LayerNorm(width)
            self.q, self.k, self.v, self.out = (nn.Linear(width, width, bias=False) for _ in range(4))
            self.input, self.forget = nn.Linear(width, width), nn.Linear(width, width)

        def forward(self, q, tokens):
            def split(x):
                return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            tokens = self.norm(tokens)
            z = f.scaled_dot_product_attention(split(self.q(q)), split(self.k(tokens)), split(self.v(tokens)))
            z = self.out(z.transpose(1, 2).flatten(2))
            return z, torch.sigmoid(self.input(z)), self.forget(z)

    class Ret2(nn.Module):
        def __init__(self):
            super().__init__()
            width, heads = config["hidden_size"], config["num_heads"]
            self.text, self.vision = towers(config)
            self.state = nn.Parameter(torch.randn(1, 1, width))
            self.layers = config["text_layers"], config["vision_layers"]
            sizes = [self.widths(side) for side in ("text", "vision")]
            self.adapters = nn.ModuleList(nn.ModuleList(nn.Linear(s, width) for s in per[:-1]) for per in sizes)
            self.steps = nn.ModuleList(Step(width, heads) for _ in sizes)
            self.globals = nn.ModuleList(nn.Linear(per[-1], width) for per in sizes)
            self.state_norm, self.mlp_norm = nn.LayerNorm(width), nn.LayerNorm(width)
            self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
            self.proj = nn.Linear(width, config["output_dim"], bias=False)

        def widths(self, side):
            """Of every sampled layer, then of the pooled vector."""
            if config[side]["kind"] == "efficientnet_lite0":
                channels = [16, 24, 24, 40, 40, 80, 80, 80, 112, 112, 112, 192, 192, 192, 192, 320]
                return [channels[layer] for layer in config["vision_layers"]] + [1280]
            return [config[side]["hidden_size"]] * (len(config["text_layers"]) + 1)

        def forward(self, ids, pixels):
            features = (self.text(input_ids=ids, attention_mask=torch.ones_like(ids), output_hidden_states=True),
                        self.vision(pixel_values=pixels, output_hidden_states=True))
            h = self.state.expand(len(ids), -1, -1)
            for at in range(len(self.layers[0])):
                q, forget, taken = self.state_norm(h), 0, 0
                for side, (step, adapters) in enumerate(zip(self.steps, self.adapters)):
                    hidden = features[side].hidden_states[self.layers[side][at] + 1]
                    z, gate, more = step(q, adapters[at](hidden))
                    forget, taken = forget + more, taken + gate * z
                c = torch.sigmoid(forget) * h + taken
                h = c + self.mlp(self.mlp_norm(c))
            for into, out in zip(self.globals, features):
                h = h + into(out.pooler_output)[:, None]
            return f.normalize(self.proj(h), dim=-1)

    return Ret2().eval()


def peak_memory():
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:"))


def run_torch(config, threads, tokens):
    import torch
    import transformers
    torch.set_num_threads(threads)
    torch.manual_seed(1)
    with torch.inference_mode():
        model = ret2(config)
        crop = config.get("image_processor", {}).get("crop_size")
        side = crop["height"] if crop else config["vision"]["image_size"]
        rows = []
        for batch in BATCHES:
            ids = torch.randint(1000, config["text"]["vocab_size"], (batch, tokens))
            pixels = torch.randn(batch, 3, side, side)
            model(ids, pixels)
            start, best, runs = time.perf_counter(), float("inf"), 0
            while runs < RUNS or time.perf_counter() - start < SECONDS:
                begin = time.perf_counter()
                model(ids, pixels)
                best, runs = min(best, time.perf_counter() - begin), runs + 1
            rows.append({"batch": batch, "items_per_s": batch / best})
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    return {"versions": versions, "batches": rows, "peak_memory_bytes": peak_memory()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cicerone", type=Path, required=True)
    parser.add_argument("--model", default="clip-vit-l-14", help="a file of configs/retrievers, without .json, or a path")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--text-tokens", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=2, help="times that each side runs")
    parser.add_argument("--torch-alone", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    root = Path(__file__).resolve().parents[2]
    path = Path(args.model) if args.model.endswith(".json") else root / "configs/retrievers" / f"{args.model}.json"
    config = json.loads(path.read_text())
    if args.torch_alone:
        print(json.dumps(run_torch(config, args.threads, args.text_tokens)))
        return
    env = {**os.environ, "RAYON_NUM_THREADS": str(args.threads), "OMP_NUM_THREADS": str(args.threads)}

    def told(command):
        return json.loads(subprocess.run(command, check=True, capture_output=True, text=True, env=env).stdout)

    theirs, ours = [], []
    for _ in range(args.rounds):
        theirs.append(told([sys.executable, __file__, *sys.argv[1:], "--torch-alone"]))
        ours.append(told([args.cicerone, "--no-progress", "bench", "encode", "--model", args.model, "--random-weights",
                          "--text-tokens", str(args.text_tokens), "--json"]))
    product = max(our["model"]["peak_gflop_per_s"] for our in ours)
    rows = []
    for at, batch in enumerate(BATCHES):
        speed = max(row["items_per_s"] for our in ours for row in our["model"]["batches"]
                    if (row["given"], row["batch"]) == ("both", batch))
        torch_speed = max(their["batches"][at]["items_per_s"] for their in theirs)
        rows.append({"batch": batch, "cicerone_items_per_s": speed, "torch_items_per_s": torch_speed,
                     "ratio": speed / torch_speed,
                     "cicerone_peak_share": speed * ours[0]["model"]["gflop_per_item"] / product})
    print(json.dumps({
        "model": args.model, "threads": args.threads, "text_tokens": args.text_tokens, "rounds": args.rounds,
        "versions": theirs[0]["versions"], "batches": rows, "peak_gflop_per_s": product,
        "cicerone_peak_memory_bytes": max(our["peak_memory_bytes"] for our in ours),
        "torch_peak_memory_bytes": max(their["peak_memory_bytes"] for their in theirs),
    }, indent=2))


if __name__ == "__main__":
    main()
