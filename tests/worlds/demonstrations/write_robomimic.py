"""Writes `robomimic.hdf5` beside this file with robomimic's own dataset_states_to_obs.

That script plays recorded states back in a simulator and writes what it observes. Here the
simulator is a stand-in whose pictures tell episode, frame and camera; the file is robomimic's own.
Run once, in an environment of its own:

    uv venv /somewhere && uv pip install --python /somewhere --no-deps robomimic==0.3.0
    uv pip install --python /somewhere h5py torch tqdm termcolor tensorboardX imageio matplotlib
    /somewhere/bin/python tests/worlds/demonstrations/write_robomimic.py
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from write_rlds import LENGTHS, action, pixels, state

HERE = Path(__file__).parent
CAMERAS = ("agentview_image", "robot0_eye_in_hand_image")


def main() -> None:
    import h5py
    from robomimic.envs.env_base import EnvBase
    from robomimic.scripts import dataset_states_to_obs as writer

    class StandIn(EnvBase):
        """Its state is (episode, frame)."""

        def __init__(self) -> None:
            self.at = np.zeros(2)

        def _seen(self) -> dict[str, np.ndarray]:
            episode, frame = self.at.astype(int)
            images = {name: pixels(episode, frame, n) for n, name in enumerate(CAMERAS)}
            return images | {"robot0_eef_pos": state(episode, frame)[:3]}

        def reset(self):
            return self._seen()

        def reset_to(self, state):
            self.at = np.asarray(state["states"])
            return self._seen()

        def step(self, action):
            self.at = self.at + np.array([0, 1])
            return self._seen(), 0.0, False, {}

        def is_success(self):
            return {"task": False}

        def get_reward(self):
            return 0.0

        def serialize(self):
            kwargs = {"control_freq": 20, "camera_names": ["agentview", "robot0_eye_in_hand"]}
            return {"env_name": "Lift", "type": 1, "env_version": "1.4.1", "env_kwargs": kwargs}

    StandIn.__abstractmethods__ = frozenset()
    writer.EnvUtils.create_env_for_data_processing = lambda **_: StandIn()
    writer.EnvUtils.is_robosuite_env = lambda *_, **__: False
    writer.FileUtils.get_env_metadata_from_dataset = lambda **_: {}
    with tempfile.TemporaryDirectory() as folder:
        recorded = Path(folder) / "demo.hdf5"
        with h5py.File(recorded, "w") as file:
            for episode, length in enumerate(LENGTHS):
                # demo_10 comes after demo_2, and before it by the alphabet
                group = file.create_group(f"data/demo_{(1, 2, 10, 11)[episode]}")
                group["actions"] = np.stack([action(episode, frame) for frame in range(length)])
                group["states"] = np.array([(episode, frame) for frame in range(length)], float)
            file["mask/train"] = np.array([b"demo_1", b"demo_10"])
        writer.dataset_states_to_obs(
            argparse.Namespace(
                dataset=str(recorded),
                output_name="image.hdf5",
                n=None,
                shaped=False,
                camera_names=["agentview", "robot0_eye_in_hand"],
                camera_height=16,
                camera_width=24,
                done_mode=2,
                copy_rewards=False,
                copy_dones=False,
                exclude_next_obs=True,
                compress=True,
            )
        )
        (HERE / "robomimic.hdf5").write_bytes((Path(folder) / "image.hdf5").read_bytes())


if __name__ == "__main__":
    main()
