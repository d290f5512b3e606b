"""Objects in KITTI's pictures: what is read, trained, found and told."""
