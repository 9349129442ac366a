//! Owns the shaders: their SPIR-V, committed beside its source, and the pipelines made of it. They
//! are named after the functions of the oracle that they do the work of.
//!
//! Knows the [variants](Variant) of a shader and the numbers that are [pushed](PushConstants) to it,
//! not what they are dispatched for. `make shaders` compiles the sources anew; tests compare.

mod push;
mod variant;

use std::sync::{Arc, Mutex};

use vulkano::descriptor_set::layout::{
    DescriptorSetLayout, DescriptorSetLayoutBinding, DescriptorSetLayoutCreateInfo, DescriptorType,
};
use vulkano::device::Device;
use vulkano::pipeline::compute::ComputePipelineCreateInfo;
use vulkano::pipeline::layout::{PipelineLayoutCreateInfo, PushConstantRange};
use vulkano::pipeline::{ComputePipeline, PipelineLayout, PipelineShaderStageCreateInfo};
use vulkano::shader::{
    ShaderModule, ShaderModuleCreateInfo, ShaderStages, SpecializationConstant, spirv,
};
use vulkano::{Validated, VulkanError};

use crate::lock;

pub(super) use self::push::PushConstants;
pub(super) use self::variant::{Form, Made, Packing, Variant};

/// The pipelines of a device, made as streams ask for them.
pub(super) struct Pipelines {
    device: Arc<Device>,
    layout: Arc<PipelineLayout>,
    made: Mutex<Vec<(Variant, Arc<ComputePipeline>)>>,
}

impl Pipelines {
    pub(super) fn new(device: &Arc<Device>) -> Result<Self, Validated<VulkanError>> {
        let binding = DescriptorSetLayoutBinding {
            stages: ShaderStages::COMPUTE,
            ..DescriptorSetLayoutBinding::descriptor_type(DescriptorType::StorageBuffer)
        };
        let set = DescriptorSetLayoutCreateInfo {
            bindings: (0..4).map(|number| (number, binding.clone())).collect(),
            ..Default::default()
        };
        let set = DescriptorSetLayout::new(Arc::clone(device), set)?;
        let pushed = PushConstantRange {
            stages: ShaderStages::COMPUTE,
            offset: 0,
            size: size_of::<PushConstants>() as u32,
        };
        let layout = PipelineLayoutCreateInfo {
            set_layouts: vec![set],
            push_constant_ranges: vec![pushed],
            ..Default::default()
        };
        let layout = PipelineLayout::new(Arc::clone(device), layout)?;
        Ok(Self { device: Arc::clone(device), layout, made: Mutex::default() })
    }

    /// That of every pipeline.
    pub(super) const fn layout(&self) -> &Arc<PipelineLayout> {
        &self.layout
    }

    /// The pipeline of a variant. Compiling one takes milliseconds.
    pub(super) fn get(
        &self,
        variant: Variant,
    ) -> Result<Arc<ComputePipeline>, Validated<VulkanError>> {
        let mut made = lock::wait(&self.made);
        if let Some((_, pipeline)) = made.iter().find(|(of, _)| *of == variant) {
            return Ok(Arc::clone(pipeline));
        }
        let pipeline = self.make(variant)?;
        made.push((variant, Arc::clone(&pipeline)));
        Ok(pipeline)
    }

    fn make(&self, variant: Variant) -> Result<Arc<ComputePipeline>, Validated<VulkanError>> {
        let words = spirv::bytes_to_words(variant.code());
        let words = words.map_err(|_| VulkanError::InitializationFailed)?;
        // SAFETY: the code was made by a compiler of GLSL; a test compares.
        let module = unsafe {
            ShaderModule::new(Arc::clone(&self.device), ShaderModuleCreateInfo::new(&words))
        }?;
        let constant =
            |(number, value): (u32, u32)| match module.specialization_constants().get(&number)? {
                SpecializationConstant::Bool(_) => Some((number, (value != 0).into())),
                _ => Some((number, value.into())),
            };
        let constants = (0..).zip(variant.constants()).filter_map(constant).collect();
        let main = module.specialize(constants)?.entry_point("main");
        let main = main.ok_or(VulkanError::InitializationFailed)?;
        let stage = PipelineShaderStageCreateInfo::new(main);
        let layout = Arc::clone(&self.layout);
        let info = ComputePipelineCreateInfo::stage_layout(stage, layout);
        ComputePipeline::new(Arc::clone(&self.device), None, info)
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};
    use std::process::Command;

    use crate::skip::skip;

    /// Which compiler made it.
    fn generator(spirv: &[u8]) -> Option<&[u8]> {
        spirv.get(8..12)
    }

    /// The sums that `make shaders` wrote, of every source and of the code that it made of them.
    const SUMS: &str = "SHA256SUMS";

    fn folder() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("src/device/vulkan/shaders")
    }

    /// Files of the shaders, sources and code.
    fn files() -> Vec<PathBuf> {
        let files = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
        files.filter(|path| !path.ends_with(SUMS)).collect()
    }

    #[test]
    fn nothing_was_changed_since_the_code_was_made() {
        let mut sum = Command::new("sha256sum");
        let summed = sum.args(["--check", "--strict", "--quiet", SUMS]).current_dir(folder());
        let output = summed.output().unwrap();
        let said = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
        assert!(output.status.success(), "make shaders: {}{}", said[0], said[1]);
        let sums = std::fs::read_to_string(folder().join(SUMS)).unwrap();
        let named = |path: &PathBuf| {
            let name = path.file_name().unwrap().to_str().unwrap();
            sums.lines().any(|line| line.split_whitespace().nth(1) == Some(name))
        };
        let unnamed: Vec<_> = files().into_iter().filter(|path| !named(path)).collect();
        assert!(unnamed.is_empty(), "make shaders: {unnamed:?} is new");
    }

    #[test]
    fn the_committed_code_is_what_the_sources_say() {
        let (mut compiled, mut compared) = (0, 0);
        for source in files() {
            if source.extension().is_none_or(|extension| extension != "comp") {
                continue;
            }
            let made = Command::new("glslc")
                .args(["--target-env=vulkan1.2", "-O", "-o", "-"])
                .arg(&source)
                .output();
            let Ok(made) = made else {
                skip("glslc", "there is no glslc");
                return;
            };
            assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
            compiled += 1;
            let committed = std::fs::read(source.with_extension("spv")).unwrap();
            // Another version may make other code of the same source. The sums say that it was made of this one.
            if generator(&made.stdout) == generator(&committed) {
                assert!(
                    made.stdout == committed,
                    "{} is not what its source says: make shaders",
                    source.with_extension("spv").display()
                );
                compared += 1;
            }
        }
        assert_eq!(compiled, 6);
        if compared < compiled {
            let others = compiled - compared;
            skip("same-glslc", &format!("{others} shaders were made by another version of glslc"));
        }
    }
}
