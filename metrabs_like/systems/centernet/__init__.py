"""System `centernet`: from a whole RGB image to its people: boxes, joints, masks, in one pass.

References:
  Zhou, Wang and Kraehenbuehl, Objects as Points, 2019; Yu et al., Deep Layer Aggregation, CVPR
  2018; Zhu et al., Deformable ConvNets v2, CVPR 2019; Tian et al., Conditional Convolutions for
  Instance Segmentation, ECCV 2020 (the masks).
"""
