"""What can be wrong at a border, each with a name of its own.

Every message says where (a path or a key), what was found, and what was expected.
"""


class PipelineError(Exception):
    """Something a person has to mend; never a bug of this code."""


class InUseError(PipelineError):
    """Something that another run is writing; says which."""


class OutputError(PipelineError, OSError):
    """A file that cannot be written: a full disk, a read-only folder; worth another try later."""


class ChangedError(PipelineError, OSError):
    """A source that changed or vanished while it was read; worth another try."""


class ClusterError(PipelineError, OSError):
    """A Dask cluster without workers, or one that broke at work; worth another try."""


class CatalogError(PipelineError):
    """`data_catalog.yaml`, or a release that does not hold what the catalogue says."""


class ConfigError(PipelineError):
    """A run's YAML file, or an override on the command line."""


class HeatmapError(PipelineError):
    """A file of traffic frames that is not what its edition promises."""


class PointsError(PipelineError):
    """A file of GPS points that cannot be rasterised."""


class StoreError(PipelineError):
    """A store that is missing, incomplete or of another edition."""


class WindowError(PipelineError):
    """A window that does not fit into its day."""


class SubmissionError(PipelineError):
    """A submission that the competition would refuse; lists every fault."""


class ModelError(PipelineError):
    """A network that cannot be built, trained or loaded, or was trained for something else."""


class QuarantineError(PipelineError):
    """A job that crashed, hung or outgrew its memory while it read a foreign file."""


class DigitsError(PipelineError):
    """Images of digits, or sequences drawn from them, that are not what the catalogue promises."""


class StudyError(PipelineError):
    """A blind study that cannot be made, or answers that are not of it."""


class VideoError(PipelineError):
    """Frames of a camera, or a store of them, that are not what the catalogue promises."""


class LabelError(PipelineError):
    """Labels or detections that are not in KITTI's text format, or do not belong together."""
