"""Loss functions: functions or modules of (sr, hr) that return a scalar.

pixel.py             L1, Charbonnier, MSE, 1/PSNR, DSSIM, total variation
perceptual.py        distance between VGG features
feature_matching.py  distance between a discriminator's features
adversarial.py       what generator and discriminator minimise against each other
combined.py          the weighted sum that iSeeBetter trains with
arguments.py         checks that all of them share
"""
