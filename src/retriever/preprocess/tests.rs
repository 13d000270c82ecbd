//! Pictures against what Pillow and Hugging Face's processors make of them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use image::{Rgb, RgbImage, imageops};
use serde_json::{Value, json};

use super::image::{Fixed, ImageProcessor, Size};
use super::resize::{Axis, Resample, resize};
use crate::retriever::golden::sets;
use crate::retriever::picture::{Picture, PictureLimits};

/// Largest difference from Pillow, in steps of a byte.
const TOLERANCE: f32 = 2.0;

fn pictures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/pictures")
}

fn open(path: &Path) -> Picture {
    Picture::open(path, &PictureLimits::default()).unwrap()
}

/// What Pillow makes of the pictures of [`pictures`], `[H, W, 3]` bytes.
fn expected() -> HashMap<String, Tensor> {
    candle_core::safetensors::load(pictures().join("expected.safetensors"), &Device::Cpu).unwrap()
}

/// Largest difference of two pictures of one size.
#[track_caller]
fn far(what: &str, ours: &RgbImage, expected: &Tensor) -> u8 {
    let (height, width, _) = expected.dims3().unwrap();
    assert_eq!((ours.width() as usize, ours.height() as usize), (width, height), "{what}");
    let expected = expected.flatten_all().unwrap().to_vec1::<u8>().unwrap();
    ours.as_raw().iter().zip(expected).map(|(ours, expected)| ours.abs_diff(expected)).max().unwrap()
}

/// Ten pictures times three processors. Our own set keeps eight of them and every eighth pixel of every eighth row.
#[test]
fn pixels_are_hugging_faces() {
    let sets = sets("images");
    assert!(!sets.is_empty());
    let mut off = Vec::new();
    for dir in sets {
        let processors: HashMap<String, Value> =
            serde_json::from_slice(&fs_err::read(dir.join("processors.json")).unwrap()).unwrap();
        let pixels = candle_core::safetensors::load(dir.join("pixels_f16.safetensors"), &Device::Cpu).unwrap();
        assert!(pixels.len() >= 24);
        for (name, expected) in pixels {
            let (processor, file) = name.split_once('/').unwrap();
            let processor = ImageProcessor::read(&processors[processor]).unwrap();
            let Fixed { height, width } = processor.output_size().unwrap();
            let (_, rows, columns) = expected.dims3().unwrap();
            let ours = processor.pixels(&open(&dir.join(file))).unwrap();
            let expected = expected.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let (down, across) = (height as usize / rows, width as usize / columns);
            let mut farthest = 0f32;
            for (at, expected) in expected.iter().enumerate() {
                let (channel, row, column) = (at / (rows * columns), at / columns % rows, at % columns);
                let ours = ours[(channel * height as usize + row * down) * width as usize + column * across];
                let steps = (ours - expected).abs() * processor.image_std[channel] / processor.rescale_factor;
                farthest = farthest.max(steps);
            }
            if farthest > TOLERANCE {
                off.push(format!("{}: {name} by {farthest}", dir.display()));
            }
        }
    }
    assert!(off.is_empty(), "off: {off:#?}");
}

#[test]
fn any_colour_type_turned_anyhow_becomes_pillows_rgb() {
    let mut off = Vec::new();
    for (file, expected) in expected().into_iter().filter(|(name, _)| !name.contains('/')) {
        let far = far(&file, open(&pictures().join(&file)).rgb(), &expected);
        // The decoder of TIFF rounds inks differently.
        let allowed = if file == "cmyk.tif" { 1 } else { 0 };
        if far > allowed {
            off.push(format!("{file} by {far}"));
        }
    }
    assert!(off.is_empty(), "off: {off:#?}");
}

/// All of an axis.
fn whole(source: u32, target: u32) -> Axis {
    Axis { source, target: target.into(), first: 0, count: target }
}

#[test]
fn every_filter_resizes_as_pillow_does() {
    let picture = open(&pictures().join("noise.png"));
    let (width, height) = picture.rgb().dimensions();
    let mut compared = 0;
    for (name, expected) in expected().into_iter().filter(|(name, _)| name.starts_with("resize/")) {
        let filter = name.split('/').nth(1).unwrap().parse().unwrap();
        let (h, w, _) = expected.dims3().unwrap();
        let (x, y) = (whole(width, w as u32), whole(height, h as u32));
        let ours = resize(picture.rgb(), x, y, Resample::numbered(filter).unwrap()).unwrap();
        let far = far(&name, &ours, &expected);
        assert!(f32::from(far) <= TOLERANCE, "{name}: off by {far}");
        compared += 1;
    }
    assert_eq!(compared, 60);
}

/// Without the crop, the line would become 53,333 pixels wide. Pillow made that picture and cut its middle.
#[test]
fn the_middle_of_a_long_line_is_that_of_the_whole_resized() {
    let line = open(&pictures().join("line.png"));
    let column = Picture::from_rgb(transposed(line.rgb()));
    let processor = processor(json!({"size": {"shortest_edge": 16}, "crop_size": 16, "do_normalize": false,
        "do_rescale": false}));
    let expected = expected();
    for (name, picture) in [("line/16", line), ("column/16", column)] {
        let ours = processor.pixels(&picture).unwrap();
        let interleaved = (0..ours.len()).map(|at| ours[at % 3 * 256 + at / 3] as u8).collect();
        let far = far(name, &RgbImage::from_raw(16, 16, interleaved).unwrap(), &expected[name]);
        assert!(f32::from(far) <= TOLERANCE, "{name}: off by {far}");
    }
}

fn transposed(rgb: &RgbImage) -> RgbImage {
    imageops::flip_horizontal(&imageops::rotate90(rgb))
}

fn processor(json: Value) -> ImageProcessor {
    ImageProcessor::read(&json).unwrap()
}

#[test]
fn pictures_of_absurd_shapes_become_pixels_of_the_usual_shape() {
    let processors = [
        json!({"image_processor_type": "CLIPImageProcessor"}),
        json!({"image_processor_type": "SiglipImageProcessor"}),
        json!({"image_processor_type": "BitImageProcessor", "size": {"shortest_edge": 256}}),
        json!({"image_processor_type": "CLIPImageProcessor", "do_resize": false}),
    ];
    let shapes = [(1, 1), (1, 2), (10_000, 3), (3, 10_000), (1_000_000, 1), (1, 1_000_000), (225, 224), (4000, 3000)];
    for json in processors {
        let processor = processor(json.clone());
        for (width, height) in shapes {
            let shade = |x: u32, y: u32| Rgb([(x % 256) as u8, (y % 256) as u8, 77]);
            let pixels = processor.pixels(&Picture::from_rgb(RgbImage::from_fn(width, height, shade))).unwrap();
            assert_eq!(pixels.len(), 3 * 224 * 224, "{json} {width} x {height}");
            assert!(pixels.iter().all(|x| x.abs() < 4.0), "{json} {width} x {height}");
        }
    }
    let message = processor(json!({"image_processor_type": "CLIPImageProcessor", "do_center_crop": false}))
        .pixels(&Picture::from_rgb(RgbImage::new(10_000, 3)))
        .unwrap_err()
        .to_string();
    assert!(message.contains("10000 x 3 pixels would become 746666 x 224"), "{message}");
    assert!(ImageProcessor::default().pixels(&Picture::from_rgb(RgbImage::new(0, 3))).is_err());
}

/// A picture smaller than the crop stands in the middle of black, before the mean is subtracted.
#[test]
fn a_small_picture_is_padded_with_black() {
    let crop = json!({"do_resize": false, "crop_size": {"height": 4, "width": 5}, "do_rescale": false,
        "image_mean": [1, 1, 1], "image_std": [2, 2, 2]});
    let white = Picture::from_rgb(RgbImage::from_pixel(2, 1, Rgb([255; 3])));
    let pixels = processor(crop).pixels(&white).unwrap();
    let rows: Vec<Vec<f32>> = pixels[..20].chunks(5).map(<[f32]>::to_vec).collect();
    assert_eq!(rows[2], [-0.5, -0.5, 127.0, 127.0, -0.5]);
    assert!([0, 1, 3].iter().all(|row| rows[*row] == [-0.5; 5]));
}

#[test]
fn files_of_every_family_are_read_with_their_defaults() {
    let square = |side| Fixed { height: side, width: side };
    let edge = |side| Some(Size::ShortestEdge { shortest_edge: side });
    // openai/clip-vit-large-patch14, written by a version of 2022.
    let old = processor(json!({
        "crop_size": 224, "do_center_crop": true, "do_normalize": true, "do_resize": true,
        "feature_extractor_type": "CLIPFeatureExtractor", "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711], "resample": 3, "size": 224
    }));
    assert_eq!(old, ImageProcessor::default());
    assert_eq!(processor(json!({"image_processor_type": "CLIPImageProcessor"})), ImageProcessor::default());
    let fast = processor(json!({"image_processor_type": "CLIPImageProcessorFast", "size": {"shortest_edge": 336},
        "crop_size": {"height": 336, "width": 336}, "do_convert_rgb": true}));
    assert_eq!((fast.size, fast.crop_size), (edge(336), Some(square(336))));
    // google/siglip2-so400m-patch14-384.
    let siglip = processor(json!({
        "do_convert_rgb": null, "do_normalize": true, "do_rescale": true, "do_resize": true,
        "image_mean": [0.5, 0.5, 0.5], "image_processor_type": "SiglipImageProcessor", "image_std": [0.5, 0.5, 0.5],
        "processor_class": "SiglipProcessor", "resample": 2, "rescale_factor": 0.00392156862745098,
        "size": {"height": 384, "width": 384}
    }));
    assert_eq!((siglip.size, siglip.crop_size), (Some(Size::Fixed(square(384))), None));
    assert_eq!((siglip.resample, siglip.image_mean), (Resample::Bilinear, [0.5; 3]));
    assert_eq!(siglip.output_size(), Some(square(384)));
    let number = processor(json!({"image_processor_type": "SiglipImageProcessor", "size": 256}));
    assert_eq!(number.size, Some(Size::Fixed(square(256))));
    assert_eq!((number.image_mean, number.image_std), ([0.5; 3], [0.5; 3]));
    // facebook/dinov2-base.
    let dinov2 = processor(json!({
        "crop_size": {"height": 224, "width": 224}, "do_center_crop": true, "do_convert_rgb": true,
        "do_normalize": true, "do_rescale": true, "do_resize": true, "image_mean": [0.485, 0.456, 0.406],
        "image_processor_type": "BitImageProcessor", "image_std": [0.229, 0.224, 0.225], "resample": 3,
        "rescale_factor": 0.00392156862745098, "size": {"shortest_edge": 256}
    }));
    assert_eq!((dinov2.size, dinov2.crop_size), (edge(256), Some(square(224))));
    assert_eq!(dinov2.image_std, [0.229, 0.224, 0.225]);
    let none = processor(json!({"image_processor_type": "BitImageProcessor", "do_resize": false,
        "do_center_crop": false, "do_rescale": false, "do_normalize": false, "resample": 0}));
    assert_eq!((none.size, none.crop_size, none.rescale_factor), (None, None, 1.0));
    assert_eq!((none.image_mean, none.image_std, none.resample), ([0.0; 3], [1.0; 3], Resample::Nearest));
    assert_eq!(none.output_size(), None);
    for processor in [old, fast, siglip, dinov2, none] {
        let written = serde_json::to_value(&processor).unwrap();
        assert_eq!(ImageProcessor::read(&written).unwrap(), processor, "{written}");
    }
}

#[test]
fn values_that_are_not_known_are_refused_by_their_key() {
    let clip = |more: Value| {
        let mut json = json!({"image_processor_type": "CLIPImageProcessor"});
        json.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json
    };
    for (json, expected) in [
        (json!({"image_processor_type": "ViltImageProcessor"}), "`image_processor_type`: found \"ViltImageProcessor\""),
        (json!({"size": 224}), "`size`: found 224, expected shortest_edge, or height and width: what a number alone"),
        (json!({"size": {"height": 4, "width": 4}}), "`image_mean`: found nothing, expected three numbers"),
        (clip(json!({"size": {"height": 224}})), "`size`: found {\"height\":224}"),
        (clip(json!({"size": {"shortest_edge": 224, "longest_edge": 500}})), "`size`"),
        (
            clip(json!({"size": {"shortest_edge": 0}})),
            "`size.shortest_edge`: found 0, expected a whole number from 1 to 4096",
        ),
        (clip(json!({"size": "224"})), "`size`: found \"224\", expected an object"),
        (clip(json!({"size": 1_000_000})), "`size`: found 1000000"),
        (clip(json!({"crop_size": {"height": 224, "width": 99_999}})), "`crop_size.width`: found 99999"),
        (clip(json!({"crop_size": -1})), "`crop_size`: found -1"),
        (clip(json!({"resample": 6})), "`resample`: found 6, expected a whole number from 0 to 5"),
        (clip(json!({"do_resize": 1})), "`do_resize`: found 1, expected true or false"),
        (clip(json!({"do_center_crop": "no"})), "`do_center_crop`"),
        (clip(json!({"do_rescale": "no"})), "`do_rescale`"),
        (clip(json!({"do_normalize": []})), "`do_normalize`"),
        (clip(json!({"do_convert_rgb": 3})), "`do_convert_rgb`: found 3"),
        (clip(json!({"rescale_factor": 255})), "`rescale_factor`: found 255"),
        (clip(json!({"image_mean": [0.5]})), "`image_mean`: found [0.5], expected three numbers"),
        (clip(json!({"image_std": [0.5, 0, 0.5]})), "`image_std`: found [0.5,0,0.5]"),
        (clip(json!({"image_std": [0.5, 0.5, 0.5, 1e9]})), "`image_std`"),
    ] {
        let message = ImageProcessor::read(&json).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}\nexpected {expected}");
    }
}
