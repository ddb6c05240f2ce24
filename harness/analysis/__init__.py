"""Analysis of Gearbox runs: statistics, plots and the report.

The harness (C++) measures and writes records; this package reads them and never measures anything. All it knows about a
run is in the run directory, in the format of docs/RECORDS.md, so a figure can be redrawn years later on another machine.

Layers, each importing only those above it:

    records     text on disk -> JSON values with their places
    rules       what a manifest, a planned cell and a record must look like
    identity    what is one cell, and labels for it
    treatments  levels of a run's factors, their names, and how one treatment is found from another
    design      levels, replicates and budget of a plan against its manifest
    check       is a run directory what a run has written? One set of rules for every verb, `resume` included
    load        a run directory -> Run (one row per planned invocation)
    choose      what a person calls a level or a treatment
    dunnett     the distribution of the largest of many differences to one reference
    gvm         values, blocks, treatments -> contrasts with simultaneous intervals; knows nothing of runs
    power       what a design can find, and the declared looks
    stats       numbers -> estimates, companions of the answer, the verdict that an interval is read as; knows nothing of runs
    selftest    simulated runs whose truth is known -> error rates and power of all that
    histogram   latency and pause histograms: merging, quantiles
    factorial   type-II analysis of variance on logs
    answers     what a study says of one comparison, effect or interaction
    study       Run -> every comparison that the outputs share, computed once
    words       study -> sentences
    plots/      study -> figures, one file per plot
    rows        Run -> rows, one an invocation; export writes them, and python/gearbox makes frames of them
    table, grid, compare, report, __main__   what a person calls

How to call it, from the repository root (the front door does the same):

    PYTHONPATH=harness /usr/bin/python3 -m analysis report results/quickstart/latest
    /usr/bin/python3 -m unittest discover -s tests/analysis -t .
"""
