"""LMSCNet (Roldao, de Charette and Verroust-Blondet, 3DV 2020): occupancy completed by a 2D UNet whose channels are heights."""
