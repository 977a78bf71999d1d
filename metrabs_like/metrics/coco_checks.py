"""Checks of contents of COCO's files, before the official tool reads them.

The tool itself is silent about much of it: without the category it scores -1, annotations of
unknown images vanish, NaN compares as it comes. Conventions: see `coco_content`.
"""

import numpy as np

_LISTS = ("images", "annotations", "categories")


def person_category(content) -> dict:
    """Finds the category of the people.

    Args:
      content: of an annotation file.

    Returns:
      The category named `person`, or the only one.

    Raises:
      ValueError: if a list is missing, or there is no such category.
    """
    content = content if isinstance(content, dict) else {}
    missing = [name for name in _LISTS if not isinstance(content.get(name), list)]
    if missing:
        raise ValueError(
            f"ground truth lacks the lists {', '.join(missing)}; an annotation file has "
            f"{', '.join(_LISTS)}. Without categories the official tool finds nobody and says -1"
        )
    categories = [c for c in content["categories"] if isinstance(c, dict) and "id" in c]
    people = [c for c in categories if c.get("name") == "person"]
    people = people or (categories if len(categories) == 1 else [])
    if len(people) != 1:
        raise ValueError(
            f"ground truth: categories = {str(content['categories'])[:200]} does not hold one "
            "category 'person'; it says which annotations are people, and without it the official "
            "tool finds nobody and says -1"
        )
    return people[0]


def checked_ground_truth(content, person_id, kind, sigmas) -> dict:
    """Copies what the tool reads of an annotation file: people, with all fields.

    Args:
      content: of the file; `person_category` accepts it.
      person_id: of the category.
      kind: "bbox" or "keypoints".
      sigmas: `[J]`, for keypoints.

    Returns:
      New content with the people's annotations alone; the given one is left as it is.

    Raises:
      ValueError: naming the annotation and what is wrong.
    """
    numbers = _image_numbers(content["images"])
    seen, rows = set(), []
    for index, row in enumerate(content["annotations"]):
        where = f"annotations[{index}]"
        _check_row(row, numbers, content["categories"], where)
        annotation_id = _id(row, "id", where)
        if annotation_id in seen:
            raise ValueError(
                f"{where}: its id {annotation_id!r} comes twice; number the annotations anew"
            )
        seen.add(annotation_id)
        if row["category_id"] == person_id:
            rows.append(_person(row, where, kind, sigmas))
    return _content(rows, numbers, person_id)


def checked_results(results, content, person_id, kind, sigmas) -> dict:
    """Copies the people of a results file, with the fields that the tool adds when it loads one.

    Args:
      results: content of the file.
      content: of the annotation file.
      person_id: of the category.
      kind: "bbox" or "keypoints".
      sigmas: `[J]`, for keypoints.

    Returns:
      Content in the form of an annotation file.

    Raises:
      ValueError: naming the result and what is wrong.
    """
    if not isinstance(results, list):
        raise ValueError(f"results are no list of detections but a {type(results).__name__}")
    numbers = _image_numbers(content["images"])
    rows = []
    for index, row in enumerate(results):
        where = f"results[{index}]"
        _check_row(row, numbers, content["categories"], where)
        score = _numbers(row, "score", 1, where)[0]
        if row["category_id"] == person_id:
            rows.append({**_detection(row, where, kind, sigmas), "score": score})
    return _content(rows, numbers, person_id)


def _content(rows, numbers, person_id):
    """Puts rows together and numbers them anew.

    The tool takes an id of 0 for no match, and cannot sort texts among numbers.
    """
    for number, row in enumerate(rows, start=1):
        row |= {"id": number, "image_id": numbers[row["image_id"]], "category_id": person_id}
    images = [{"id": number} for number in numbers.values()]
    return {"images": images, "annotations": rows, "categories": [{"id": person_id}]}


def _image_numbers(images):
    """Image id -> running number, in the order in which the tool goes through the images."""
    ids = []
    for index, image in enumerate(images):
        ids.append(_id(image, "id", f"images[{index}]"))
    if len(set(ids)) < len(ids):
        seen = set()
        double = next(i for i in ids if i in seen or seen.add(i))
        raise ValueError(f"images: the id {double!r} comes twice; every image needs its own")
    try:
        ids = sorted(ids)
    except TypeError:  # texts and numbers
        pass
    return {image_id: number for number, image_id in enumerate(ids)}


def _id(row, name, where):
    value = row.get(name) if isinstance(row, dict) else None
    if not isinstance(value, (int, str)):
        raise ValueError(f"{where} lacks {name}, a number or a text: {str(row)[:200]}")
    return value


def _check_row(row, numbers, categories, where):
    """Refuses rows of unknown images and categories."""
    image_id = _id(row, "image_id", where)
    if image_id not in numbers:
        raise ValueError(
            f"{where}: image_id = {image_id!r} is not among the {len(numbers)} images; the files "
            "belong to different sets, or ids are texts in one and numbers in the other"
        )
    category_id = row.get("category_id")
    if not any(c.get("id") == category_id for c in categories if isinstance(c, dict)):
        raise ValueError(f"{where}: category_id = {category_id!r} is not among the categories")


def _person(row, where, kind, sigmas):
    """The fields of one annotation that count."""
    person = {
        "image_id": row["image_id"],
        "bbox": _numbers(row, "bbox", 4, where),
        "area": _numbers(row, "area", 1, where)[0],
        "iscrowd": int(bool(row.get("iscrowd"))),
    }
    if kind == "keypoints":
        person["keypoints"] = _numbers(row, "keypoints", 3 * len(sigmas), where)
        person["num_keypoints"] = sum(v > 0 for v in person["keypoints"][2::3])
    return person


def _detection(row, where, kind, sigmas):
    """The fields of one result that count, and those that the tool adds when it loads a file."""
    keypoints = _numbers(row, "keypoints", 3 * len(sigmas), where) if sigmas else None
    if kind == "bbox" or "bbox" in row:
        box = _numbers(row, "bbox", 4, where)
    else:
        box = _extent(keypoints)
    return {
        "image_id": row["image_id"],
        "bbox": box,
        "area": box[2] * box[3],
        "iscrowd": 0,
        "keypoints": keypoints,
    }


def _numbers(row, name, count, where):
    """Reads `count` finite numbers as a list."""
    value = row.get(name)
    values = value if isinstance(value, list) else [value]
    are_numbers = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values)
    if len(values) != count or not are_numbers or not np.isfinite(values).all():
        raise ValueError(
            f"{where}: {name} = {str(value)[:200]} must be {count} finite "
            f"number{'s' if count > 1 else ''}"
        )
    return [float(v) for v in values]


def _extent(keypoints):
    """Box of the joints, as the tool takes it for results without one."""
    x, y = keypoints[0::3], keypoints[1::3]
    return [min(x), min(y), max(x) - min(x), max(y) - min(y)]
