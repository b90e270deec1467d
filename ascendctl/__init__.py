"""ascendctl: verify clusters of Huawei Ascend servers and bring models up on them."""

__version__ = "0.1.0"
