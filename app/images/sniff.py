"""Which kind of picture some bytes are, told from the bytes alone."""

UNKNOWN = "application/octet-stream"

_TIFF = (b"II*\0", b"MM\0*", b"II+\0\x08\0\0\0", b"MM\0+\0\x08\0\0")
_BMP_HEADER_BYTES = frozenset({12, 16, 40, 52, 56, 64, 108, 124})
_AVIF_BRANDS = (b"avif", b"avis")
_HEIF_BRANDS = (b"mif1", b"msf1")


def content_type(data: bytes) -> str:
    """The content type that the bytes show, or application/octet-stream.

    Knows JPEG, PNG, GIF, WebP, BMP, TIFF (BigTIFF too) and AVIF. Looks at the first bytes only, so
    a picture that is cut short still has its type.
    """
    if data.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "image/webp"
    if data.startswith(_TIFF):
        return "image/tiff"
    if data[4:8] == b"ftyp" and _is_avif(data):
        return "image/avif"
    if data.startswith(b"BM") and _is_bmp(data):
        return "image/bmp"
    return UNKNOWN


def _is_avif(data: bytes) -> bool:
    major = data[8:12]
    if major in _AVIF_BRANDS:
        return True
    # A general HEIF brand says AVIF in its list of compatible brands, which ends with the box;
    # real lists have under ten entries, and a made-up box size shall not have us read a picture.
    end = min(int.from_bytes(data[:4]), len(data), 256)
    compatible = (data[at : at + 4] for at in range(16, end, 4))
    return major in _HEIF_BRANDS and any(brand in _AVIF_BRANDS for brand in compatible)


def _is_bmp(data: bytes) -> bool:
    # "BM" alone may begin any text: the info header's size, its one colour plane and pixels that
    # begin behind it (14 bytes are the file header) are in every BMP.
    pixels_at = int.from_bytes(data[10:14], "little")
    header_bytes = int.from_bytes(data[14:18], "little")
    planes = data[22:24] if header_bytes == 12 else data[26:28]
    return (
        header_bytes in _BMP_HEADER_BYTES
        and pixels_at >= 14 + header_bytes
        and planes == b"\x01\x00"
    )
