"""How the models of each system are measured.

An evaluator is a module with `define_flags(values)`, its flags of the command `evaluate`;
`run(trained, values, output_dir)`, which measures, prints and writes the report; and
`make_validation(trained, folder)`, what training does now and then.
"""

from types import ModuleType

from metrabs_like.cli import detection_evaluation, pose_evaluation

EVALUATORS: dict[str, ModuleType] = {
    "metrabs": pose_evaluation,
    "centernet": detection_evaluation,
}
