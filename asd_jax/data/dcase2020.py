"""Numbers and lengths of the training clips of DCASE 2020's development set."""

# Number of training clips by machine id, and the length of each clip in seconds.
TRAINING_CLIPS = {
    "ToyCar": ({"01": 1000, "02": 1000, "03": 1000, "04": 1000}, 11),
    "ToyConveyor": ({"01": 1000, "02": 1000, "03": 1000}, 10),
    "fan": ({"00": 911, "02": 916, "04": 933, "06": 915}, 10),
    "pump": ({"00": 906, "02": 905, "04": 602, "06": 936}, 10),
    "slider": ({"00": 968, "02": 968, "04": 434, "06": 434}, 10),
    "valve": ({"00": 891, "02": 608, "04": 900, "06": 892}, 10),
}
