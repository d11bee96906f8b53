"""Robot demonstrations as training data: LeRobot episodes, the action map, its statistics, the frame cache."""
