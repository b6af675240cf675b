"""A small HTTP service that scores posted recordings with a fitted run.

A request is received into a file of its own (`uploads`), decoded in one of a few threads
(`reading`), and queued. One thread runs the programs (`worker`): it takes all recordings that wait
and scores them together (`scoring`). The rest is what surrounds them: what a request asks for
(`asked`), routes and answers (`app`), connections and signals (`server`), `metrics`, and the
description of all this for programs and people (`description`).
"""
