# SPDX-License-Identifier: Apache-2.0
"""A project as quant/exit_predictor_hls.py exports them, with a function of a few lines in place of a network."""

import json
from pathlib import Path

HEADER = """\
#ifndef EXIT_PREDICTOR_H_
#define EXIT_PREDICTOR_H_
#include "ap_fixed.h"
#include "defines.h"
void exit_predictor(input_t input_1[1], result_t out[3]);
#endif
"""
# The largest result by the raw bits of the input: layer 1 below 1,000, 3 from 20,000 on, else 2; at 500 all are equal.
SOURCE = """\
#include "exit_predictor.h"
#include "parameters.h"
void exit_predictor(input_t input_1[1], result_t out[3]) {
  const unsigned raw = input_1[0].range(15, 0).to_uint();
  out[0] = raw == 500 ? -1.5 : raw < 1000 ? 2.25 : -2;
  out[1] = raw == 500 ? -1.5 : raw < 20000 ? 1.75 : -2;
  out[2] = raw == 500 ? -1.5 : 0.5;
}
"""
DEFINES = "#pragma once\ntypedef ap_fixed<16, 6> input_t;\ntypedef ap_fixed<16, 4> result_t;\n"
CONTENT = {"format": "zynqbert-exit-predictor", "version": 1, "top": "exit_predictor", "layers": 3, "row_shift": 4}


def make_project(folder: Path, **changed: object) -> Path:
    """Write it to `folder`, predictor.json with fields `changed`, and what hls4ml leaves beside; the folder."""
    files = {
        "predictor.json": json.dumps(CONTENT | changed),
        "firmware/exit_predictor.h": HEADER,
        "firmware/exit_predictor.cpp": SOURCE,
        "firmware/defines.h": DEFINES,
        "firmware/parameters.h": '#include "nnet_utils/nnet_common.h"\n',
        "firmware/nnet_utils/nnet_common.h": "#pragma once\n",
        "firmware/weights/w2.txt": "0.5",
        "firmware/ap_types/ap_fixed.h": "#error the tool has its own\n",
        "firmware/exit_predictor-0123.so": "compiled",
        "build_prj.tcl": "",
    }
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder
