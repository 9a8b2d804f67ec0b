"""The pictures of Benchmarks/RESULTS.md."""
import statistics

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt


def rate(runs):
    return statistics.median(run["result"]["tokensPerSecond"] for run in runs)


def bars(cases, path):
    """Tokens/s of every contestant, one panel a preset."""
    presets = list(dict.fromkeys(case[0] for case in cases))
    figure, panels = plt.subplots(1, len(presets), figsize=(5.5 * len(presets), 3.4), dpi=130, squeeze=False)
    for axes, preset in zip(panels[0], presets):
        chosen = sorted((rate(runs), case) for case, runs in cases.items() if case[0] == preset)
        colors = ["#d9662b" if case[1].startswith("feedback") else "#7f8c9b" for _, case in chosen]
        bars = axes.barh([f"{case[1]}, {case[2]}" for _, case in chosen], [value for value, _ in chosen], color=colors)
        axes.bar_label(bars, [f"{value:,.0f}" if value >= 10 else f"{value:.2g}" for value, _ in chosen], padding=3, fontsize=8)
        axes.set(title=preset, xlabel="tokens/s", xscale="log" if chosen[-1][0] > 100 * chosen[0][0] else "linear")
        axes.margins(x=0.2)
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path)


def curves(cases, path):
    """Tokens/s over each setting, one panel a setting, one line a precision."""
    settings = list(dict.fromkeys(case[0] for case in cases))
    figure, panels = plt.subplots(1, len(settings), figsize=(3.1 * len(settings), 3), dpi=130, squeeze=False)
    for axes, setting in zip(panels[0], settings):
        for index, precision in enumerate(dict.fromkeys(case[2] for case in cases if case[0] == setting)):
            points = sorted((case[1], rate(runs)) for case, runs in cases.items() if case[::2] == (setting, precision))
            axes.plot(*zip(*points), "o-", color=f"C{index}", markersize=3.5, linewidth=1.2, label=precision)
        axes.set(title=setting, ylabel="tokens/s", ylim=(0, None))
        axes.set_xscale("log", base=2)
        axes.set_xticks([x for x, _ in points], [str(x) for x, _ in points])
        axes.tick_params(labelsize=8)
        axes.grid(alpha=0.25)
        axes.legend(frameon=False, fontsize=8)
    figure.tight_layout()
    figure.savefig(path)
