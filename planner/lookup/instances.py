"""Cloud instances by name: how many of which device.

Source: the providers' pages of accelerated instance types (AWS EC2 P, G, Trn and Inf; Google Cloud A, G; Azure N;
Oracle GPU shapes; Lambda), 2026, from memory: counts and cards, never prices.
"""

from __future__ import annotations

import re

# (pattern of the whole name, device, count); a count of 0: the number in the name.
_FIXED: tuple[tuple[str, str, int], ...] = (
    # AWS
    (r"p3\.2xlarge", "V100-SXM2-16GB", 1), (r"p3\.8xlarge", "V100-SXM2-16GB", 4), (r"p3\.16xlarge", "V100-SXM2-16GB", 8),
    (r"p3dn\.24xlarge", "V100-SXM2-32GB", 8), (r"p4d\.24xlarge", "A100-SXM4-40GB", 8),
    (r"p4de\.24xlarge", "A100-SXM4-80GB", 8), (r"p5\.4xlarge", "H100-SXM5-80GB", 1), (r"p5\.48xlarge", "H100-SXM5-80GB", 8),
    (r"p5en?\.48xlarge", "H200-SXM-141GB", 8), (r"p6-b200\.48xlarge", "B200-HGX-180GB", 8),
    (r"p6-b300\.48xlarge", "B300-HGX", 8),
    (r"g4dn\.(?:x|2x|4x|8x|16x)large", "T4", 1), (r"g4dn\.12xlarge", "T4", 4), (r"g4dn\.metal", "T4", 8),
    (r"g5\.(?:x|2x|4x|8x|16x)large", "A10G", 1), (r"g5\.(?:12|24)xlarge", "A10G", 4), (r"g5\.48xlarge", "A10G", 8),
    (r"g6\.(?:x|2x|4x|8x|16x)large|gr6\.[48]xlarge", "L4", 1), (r"g6\.(?:12|24)xlarge", "L4", 4), (r"g6\.48xlarge", "L4", 8),
    (r"g6e\.(?:x|2x|4x|8x|16x)large", "L40S", 1), (r"g6e\.(?:12|24)xlarge", "L40S", 4), (r"g6e\.48xlarge", "L40S", 8),
    (r"g7e\.(?:2|4|8)xlarge", "RTX PRO 6000", 1), (r"g7e\.12xlarge", "RTX PRO 6000", 2),
    (r"g7e\.24xlarge", "RTX PRO 6000", 4), (r"g7e\.48xlarge", "RTX PRO 6000", 8),
    (r"trn1\.2xlarge", "Trainium1", 1), (r"trn1n?\.32xlarge", "Trainium1", 16), (r"trn2u?\.48xlarge", "Trainium2", 16),
    (r"inf2\.(?:x|8x)large", "Inferentia2", 1), (r"inf2\.24xlarge", "Inferentia2", 6), (r"inf2\.48xlarge", "Inferentia2", 12),
    # Google Cloud
    (r"a2-(?:high|mega)gpu-(\d+)g", "A100-SXM4-40GB", 0), (r"a2-ultragpu-(\d+)g", "A100-SXM4-80GB", 0),
    (r"a3-(?:high|mega|edge)gpu-(\d+)g", "H100-SXM5-80GB", 0), (r"a3-ultragpu-(\d+)g", "H200-SXM-141GB", 0),
    (r"a4-highgpu-(\d+)g", "B200-HGX-180GB", 0), (r"a4x-highgpu-(\d+)g", "GB200-per-GPU", 0),
    (r"g2-standard-(?:4|8|12|16|32)", "L4", 1), (r"g2-standard-24", "L4", 2), (r"g2-standard-48", "L4", 4),
    (r"g2-standard-96", "L4", 8), (r"g4-standard-48", "RTX PRO 6000", 1), (r"g4-standard-96", "RTX PRO 6000", 2),
    (r"g4-standard-192", "RTX PRO 6000", 4), (r"g4-standard-384", "RTX PRO 6000", 8),
    # Azure
    (r"nd96asr_?v4", "A100-SXM4-40GB", 8), (r"nd96amsr_a100_v4", "A100-SXM4-80GB", 8),
    (r"nd96isr_h100_v5", "H100-SXM5-80GB", 8), (r"nd96isr_h200_v5", "H200-SXM-141GB", 8),
    (r"nd96isr_mi300x_v5", "MI300X-192GB", 8), (r"nc24ads_a100_v4", "A100-PCIe-80GB", 1),
    (r"nc48ads_a100_v4", "A100-PCIe-80GB", 2), (r"nc96ads_a100_v4", "A100-PCIe-80GB", 4),
    (r"nc40ads_h100_v5", "H100-NVL-94GB", 1), (r"nc80adis_h100_v5", "H100-NVL-94GB", 2),
    (r"nc(?:4|8|16)as_t4_v3", "T4", 1), (r"nc64as_t4_v3", "T4", 4),
    (r"nc6s_v3", "V100-PCIe-16GB", 1), (r"nc12s_v3", "V100-PCIe-16GB", 2), (r"nc24r?s_v3", "V100-PCIe-16GB", 4),
    (r"nd40rs_v2", "V100-SXM2-32GB", 8), (r"nv36adm?s_a10_v5", "A10", 1), (r"nv72ads_a10_v5", "A10", 2),
    # NVIDIA's own machines
    (r"dgx[-_]a100[-_]640gb", "A100-SXM4-80GB", 8), (r"dgx[-_]a100[-_]320gb", "A100-SXM4-40GB", 8),
    (r"dgx[-_]h100", "H100-SXM5-80GB", 8), (r"dgx[-_]h200", "H200-SXM-141GB", 8), (r"dgx[-_]b200", "B200-HGX-180GB", 8),
    (r"dgx[-_]b300", "B300-HGX", 8),
    (r"(?:dgx[-_])?gb200[-_]nvl(72|36|4)", "GB200-per-GPU", 0), (r"(?:dgx[-_])?gb300[-_]nvl(72)", "GB300-per-GPU", 0),
    # Huawei: vllm-ascend's documentation gives "Atlas 800 A2 (64G x 8)" and "Atlas 800 A3 (64G x 16)"
    (r"atlas[-_]800[it]?[-_]a2", "Ascend-910B3-64GB", 8), (r"atlas[-_]800[it]?[-_]a3", "Ascend-910C-per-die", 16),
    # Oracle
    (r"bm\.gpu4\.8", "A100-SXM4-40GB", 8), (r"bm\.gpu\.a100-v2\.8", "A100-SXM4-80GB", 8), (r"bm\.gpu\.h100\.8", "H100-SXM5-80GB", 8),
    (r"bm\.gpu\.h200\.8", "H200-SXM-141GB", 8), (r"bm\.gpu\.b200\.8", "B200-HGX-180GB", 8), (r"bm\.gpu\.mi300x\.8", "MI300X-192GB", 8),
    (r"bm\.gpu\.l40s\.4", "L40S", 4), (r"(?:bm|vm)\.gpu\.a10\.(\d)", "A10", 0),
)  # fmt: skip


def instance(name: str) -> tuple[int, str] | None:
    """Finds (count, device) of a cloud instance by its name, None for any other name.

    >>> instance("p4d.24xlarge"), instance("a2-ultragpu-4g"), instance("Standard_ND96isr_H100_v5"), instance("L4")
    ((8, 'A100-SXM4-40GB'), (4, 'A100-SXM4-80GB'), (8, 'H100-SXM5-80GB'), None)
    """
    text = name.strip().lower().removeprefix("standard_").removeprefix("ml.").replace(" ", "_")
    for pattern, device, count in _FIXED:
        if match := re.fullmatch(pattern, text):
            return count or int(match.group(1)), device
    if match := re.fullmatch(r"(?:tpu[-_]?)?(v5e|v5litepod|v6e)-(\d{1,4})|(?:tpu[-_]?)?(v4|v5p)-(\d{1,4})", text):
        if match.group(1):  # chips
            return int(match.group(2)), "TPU-" + match.group(1).replace("litepod", "e")
        return max(1, int(match.group(4)) // 2), f"TPU-{match.group(3)}"  # TensorCores, two a chip
    if match := re.fullmatch(r"gpu_(\d{1,2})x_(\w+)", text):  # Lambda
        return int(match.group(1)), match.group(2).replace("_", " ")
    return None
